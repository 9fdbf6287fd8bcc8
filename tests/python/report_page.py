"""Opens report.html as a reader does. Arguments: the page, the name of one of its operators, and where to leave
pictures (optional). Ends with an assertion where something is not as it should be."""

import pathlib
import sys

from browser import Browser

page, operator = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
pictures = pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else None
SECTIONS = {"summary", "graph", "layers", "ways", "values", "operators", "settings"}


def keep(name, content):
    if pictures:
        pictures.mkdir(parents=True, exist_ok=True)
        (pictures / name).write_bytes(content)


def column(browser, section, place):
    cells = f"[...document.querySelectorAll('#{section} tbody tr td:nth-child({place})')]"
    return browser.run(f"{cells}.map((cell) => cell.textContent)")


def brightness(browser):
    """Of the background, from 0 to 255."""
    numbers = "getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g).slice(0, 3).map(Number)"
    return sum(browser.run(numbers)) / 3


with Browser() as browser:
    browser.size(1280, 900)
    browser.media()
    browser.open(page.as_uri())
    browser.wait("document.querySelectorAll('#graph .node').length > 0")

    sections = browser.run("[...document.querySelectorAll('section')].map((part) => part.id)")
    assert SECTIONS <= set(sections), sections
    links = browser.run("[...document.querySelectorAll('#contents a')].map((link) => link.getAttribute('href'))")
    assert links == [f"#{section}" for section in sections], links
    assert browser.run("document.querySelectorAll('#summary .tiles li').length") >= 3
    assert browser.run("[...document.querySelectorAll('.plot svg')].length") >= 2

    # Every node of the graph has a colour and says its figure.
    nodes = browser.run("[...document.querySelectorAll('#graph .node')].map((node) => [node.getAttribute('class'), node.getAttribute('aria-label')])")
    assert all(" db" in kind and label for kind, label in nodes), nodes
    assert any(" dB" in label for _, label in nodes), nodes

    # Sorting: by number, both ways, what has none last.
    heads = browser.run("[...document.querySelectorAll('#operators th')].map((head) => head.textContent)")
    place = heads.index("converted dB") + 1
    click = f"document.querySelector('#operators th:nth-child({place}) button').click()"
    browser.run(click)
    up = [float(text) for text in column(browser, "operators", place) if text != "–"]
    assert up == sorted(up) and len(set(up)) > 1, up
    assert browser.run(f"document.querySelector('#operators th:nth-child({place})').ariaSort") == "ascending"
    browser.run(click)
    down = [float(text) for text in column(browser, "operators", place) if text != "–"]
    assert down == up[::-1], down

    # Filtering, and the address that tells of both.
    everything = len(column(browser, "operators", 1))
    browser.run(f"(() => {{ const input = document.querySelector('#operators input'); input.value = {operator!r}; input.dispatchEvent(new Event('input')); }})()")
    left = column(browser, "operators", 1)
    assert 0 < len(left) < everything and all(operator in name for name in left), left
    address = browser.run("location.href")
    assert "#operators?" in address and "sort=-converted_sqnr_db" in address, address
    browser.open(address)
    assert column(browser, "operators", 1) == left, "a link brings what it was copied from"

    # A link to an operator opens the modules around it and tells its figures.
    browser.run(f"document.querySelector('#operators tbody a').click()")
    browser.wait("document.querySelector('#graph .panel h3') !== null")
    assert browser.run("document.querySelector('#graph .panel h3').textContent") == left[0]
    assert browser.run("document.querySelectorAll('#graph .node.selected').length") == 1
    facts = browser.run("document.querySelector('#graph .panel dl').textContent")
    assert "whole model, CONVERTED" in facts, facts

    # Keys: what is folded opens by Enter.
    browser.run("[...document.querySelectorAll('#graph .tools button')].find((button) => button.textContent === 'Fold').click()")
    folded = browser.run("document.querySelectorAll('#graph .node').length")
    if browser.run("document.querySelector('#graph .node[aria-label^=Open]')?.focus(), document.activeElement.matches('.node')"):
        browser.key("Enter")
        assert browser.run("document.querySelectorAll('#graph .node').length") > folded

    # Whatever a name holds, it is text.
    assert browser.run("window.hacked") is None
    assert browser.run("document.querySelectorAll('main img').length") == 0

    keep("light.png", browser.picture())
    light = brightness(browser)
    browser.media(scheme="dark")
    keep("dark.png", browser.picture())
    assert brightness(browser) < 64 < 192 < light, (brightness(browser), light)
    browser.media("print", "dark")
    assert brightness(browser) == light, "paper is white"
    assert browser.run("getComputedStyle(document.getElementById('contents')).display") == "none"
    browser.media()
    paper = browser.paper()
    keep("paper.pdf", paper)
    assert paper.startswith(b"%PDF"), paper[:20]

    browser.size(360, 740, phone=True)
    browser.open(page.as_uri())
    browser.wait("document.querySelectorAll('.plot svg').length > 0")
    keep("phone.png", browser.picture())
    assert browser.run("document.documentElement.scrollWidth") <= 360, "nothing sticks out of a phone"

    assert not browser.problems, browser.problems
    outside = [url for url in browser.requests if not url.startswith(("file:", "about:"))]
    assert not outside, outside
print("as it should be")
