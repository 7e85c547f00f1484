"""Takes docs/playground.png again, with Debian's `chromium`, from a server that runs:

make serve, and in another terminal: python docs/screenshot.py [URL]
"""

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
APPLE = base64.b64encode((HERE.parent / "examples" / "apple.png").read_bytes()).decode()
LOADED = "document.readyState === 'complete' && $('model').textContent.includes('sha256')"
ASK = f"""
show('data:image/png;base64,{APPLE}');
$('question').value = 'What is in the picture?';
$('a').value = 'It is an apple.';
$('b').value = 'It is a banana.';
$('go').click();
"""
ANSWERED = "document.body.innerText.includes('is better')"
BROWSER = "exec chromium --headless --no-sandbox --disable-gpu --remote-debugging-pipe about:blank"
WAIT_S = 30


class Browser:
    """Chromium behind its debugging pipe: messages end with a zero byte."""

    def __init__(self) -> None:
        reads, self._to = os.pipe()
        self._from, writes = os.pipe()
        # The browser reads commands from descriptor 3 and answers on 4.
        command = ["bash", "-c", f"{BROWSER} 3<&{reads} 4>&{writes}"]
        self._process = subprocess.Popen(
            command, pass_fds=(reads, writes), stderr=subprocess.DEVNULL
        )
        os.close(reads)
        os.close(writes)
        self._buffer, self._sent, self._session = b"", 0, ""
        page = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._sent += 1
        message: dict[str, Any] = {"id": self._sent, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._sent:
            continue
        result: dict[str, Any] = answer["result"]
        return result

    def evaluate(self, script: str) -> Any:
        return self.call("Runtime.evaluate", expression=script)["result"].get("value")

    def wait_for(self, condition: str) -> None:
        end = time.monotonic() + WAIT_S
        while self.evaluate(condition) is not True:
            if time.monotonic() > end:
                sys.exit(f"the page did not reach: {condition}")
            time.sleep(0.1)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._from, 65_536)
            if not part:
                sys.exit("chromium did not start or ended; is it installed?")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


def picture(url: str) -> bytes:
    """The playground after one comparison, as PNG."""
    browser = Browser()
    try:
        size = {"width": 1100, "height": 760, "deviceScaleFactor": 1, "mobile": False}
        browser.call("Emulation.setDeviceMetricsOverride", **size)
        browser.call("Page.navigate", url=url)
        browser.wait_for(LOADED)
        browser.evaluate(ASK)
        browser.wait_for(ANSWERED)
        return base64.b64decode(browser.call("Page.captureScreenshot")["data"])
    finally:
        browser.close()


if __name__ == "__main__":
    address = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000"
    (HERE / "playground.png").write_bytes(picture(address))
