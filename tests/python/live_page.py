"""Opens the live page of a server as somebody does who has a token. Arguments: the page's URL, the file with the token,
the name of a job of the caller's, and where to leave pictures (optional)."""

import json
import pathlib
import sys
import tempfile
import time

from browser import LIMIT, Browser

url, token_file, job = sys.argv[1:4]
pictures = pathlib.Path(sys.argv[4]) if len(sys.argv) > 4 else None
token = pathlib.Path(token_file).read_text().strip()


def enter(browser, token):
    browser.run(f"(() => {{ document.getElementById('token').value = {token!r}; document.querySelector('#entry button').click(); }})()")


def keep(name, content):
    if pictures:
        pictures.mkdir(parents=True, exist_ok=True)
        (pictures / name).write_bytes(content)


def downloaded(browser, folder, name, saved):
    """The file that a click on a result's button leaves."""
    browser.run(f"[...document.querySelectorAll('#artifacts button')].find((button) => button.textContent === {name!r}).click()")
    end = time.monotonic() + LIMIT
    while not (folder / saved).exists():
        assert time.monotonic() < end, f"{name} does not come: {browser.problems}, {list(folder.iterdir())}"
        time.sleep(0.05)
    return folder / saved


with Browser() as browser, tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    browser.size(1280, 900)
    browser.open(url)
    browser.wait("document.getElementById('entry').checkVisibility()")
    assert browser.run("document.querySelectorAll('#jobs tbody tr').length") == 0
    assert not browser.problems, browser.problems

    enter(browser, "dual16_wrong")
    browser.wait("!document.getElementById('trouble').hidden")
    assert "not known" in browser.run("document.getElementById('trouble').textContent")
    assert browser.run("sessionStorage.length") == 0
    # That the browser tells of the refusal is the browser's business.
    browser.problems = [problem for problem in browser.problems if "401" not in problem]

    enter(browser, token)
    browser.wait("document.querySelector('#jobs tbody a') !== null")
    links = browser.run("[...document.querySelectorAll('#jobs tbody a')].map((link) => link.getAttribute('href'))")
    assert links == [f"#{job}"], links
    assert not browser.run("document.getElementById('entry').checkVisibility()")
    keep("jobs.png", browser.picture())

    # The job as it runs, by its events.
    browser.run("document.querySelector('#jobs tbody a').click()")
    browser.wait("document.querySelectorAll('#stages progress').length > 0")
    browser.wait("document.querySelector('#job .state')?.textContent === 'SUCCEEDED'")
    text = browser.run("document.getElementById('job').textContent")
    for part in ("linear2", "split", "Outputs of the whole quantized model", "a16w8 is"):
        assert part in text, f"{part} is not in {text}"
    stages = browser.run("[...document.querySelectorAll('#stages progress')].map((stage) => [stage.value, stage.max])")
    assert len(stages) >= 4 and all(value == most for value, most in stages), stages
    artifacts = browser.run("[...document.querySelectorAll('#artifacts button')].map((button) => button.textContent)")
    assert artifacts[0] == "report.html" and "result.json" in artifacts, artifacts
    assert json.loads(downloaded(browser, folder, "result.json", "result.json").read_text())["model"] == "model.onnx"
    assert downloaded(browser, folder, "handoff/README.md", "handoff_README.md").read_text().startswith("#")
    report = downloaded(browser, folder, "report.html", "report.html")
    keep("job.png", browser.picture())
    browser.run("document.getElementById('artifacts').scrollIntoView()")
    keep("results.png", browser.picture())
    browser.media(scheme="dark")
    keep("dark.png", browser.picture())
    browser.size(360, 740, phone=True)
    keep("phone.png", browser.picture())
    assert browser.run("document.documentElement.scrollWidth") <= 360

    # The token is where it is said to be, and goes when it is asked to.
    assert browser.run("Object.values(sessionStorage)") == [token]
    assert browser.run("localStorage.length") == 0 and browser.run("document.cookie") == ""
    assert all(token not in request for request in browser.requests)
    browser.run("document.getElementById('leave').click()")
    browser.wait("document.getElementById('entry').checkVisibility()")
    assert browser.run("sessionStorage.length") == 0
    assert not browser.run("document.getElementById('job').checkVisibility()")

    # What was downloaded opens by itself, from the disk.
    browser.open(report.as_uri())
    assert browser.run("document.querySelector('h1').textContent") == "model.onnx"
    assert browser.run("document.querySelectorAll('#layers tbody tr').length") == 3

    assert not browser.problems, browser.problems
    outside = [request for request in browser.requests if not request.startswith((url, "about:", "data:", f"blob:{url}", report.as_uri()))]
    assert not outside, outside
print("as it should be")
