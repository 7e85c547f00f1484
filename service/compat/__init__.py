"""Other projects' wire formats, translated into questions and back; nothing here scores."""
