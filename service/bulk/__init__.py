"""Files of rows in, files of answers out, through a server; a stopped run goes on where it was."""
