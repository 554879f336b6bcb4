"""The page in Debian's chromium, by Playwright: every feature, in light, dark and at a phone's width, checked
with axe-core too. usage: test_page.py OUT [DROVER MODEL]     screenshots go into OUT; the last line is the
count. With DROVER and MODEL the last tests talk to `DROVER serve MODEL`, the others to fake.py."""
import asyncio
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time
import traceback

import axe_playwright_python
import fake
from playwright.sync_api import sync_playwright

OUT = pathlib.Path(sys.argv[1])
PORT = int(os.environ.get("PAGE_PORT", "0"))
passed, failed = 0, 0
problems = []


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def check(what, ok, more=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"FAIL {what} {more}")


class Page:
    """A fresh browser profile on one chat page, with what all tests need."""

    def __init__(self, browser, url, ready=True, **context):
        self.context = browser.new_context(**context)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
        self.page = self.context.new_page()
        self.page.set_default_timeout(10000)
        self.page.on("console", lambda m: problems.append(m.text) if m.type == "error" and "assignment. The action has been blocked" not in m.text and "status of 4" not in m.text and "ERR_" not in m.text else None)
        self.page.on("pageerror", lambda e: problems.append(str(e)))
        self.page.on("request", lambda r: problems.append("asked another host: " + r.url) if not r.url.startswith((url, "blob:")) else None)
        self.url = url
        self.page.goto(url)
        self.page.wait_for_selector("body[data-ready]" if ready else "dialog[open]")

    def __getattr__(self, name):
        return getattr(self.page, name)

    def send(self, text, wait=True, timeout=10):
        self.page.fill("#input", text)
        self.page.press("#input", "Enter")
        if wait:
            self.settled(timeout)

    def until(self, expression, timeout=10):
        """Ask until it holds. (Playwright's own waiting evaluates strings in the page, which its policy forbids.)"""
        end = time.time() + timeout
        while not self.page.evaluate(expression):
            if time.time() > end:
                raise TimeoutError(expression)
            time.sleep(0.03)

    def settled(self, timeout=10):
        self.page.wait_for_selector("#send[aria-label=Send]", timeout=timeout * 1000)
        self.until("!document.querySelector('.going')", timeout)

    def last(self):
        return self.page.locator("#log > .msg").last

    def act(self, label, at=-1):
        m = self.page.locator("#log > .msg")
        m.nth(at if at >= 0 else m.count() + at).get_by_role("button", name=label, exact=True).click()

    def texts(self):
        return [re.sub(r"\s+", " ", t).strip() for t in self.page.locator("#log > .msg > .body").all_inner_texts()]

    def shot(self, name):
        self.page.screenshot(path=str(OUT / (name + ".png")))

    def close(self):
        self.context.close()


def axe(p, what):
    # the page's own policy refuses scripts that are put in: they go round it, as a debugger does
    session = p.context.new_cdp_session(p.page)
    source = next(pathlib.Path(axe_playwright_python.__file__).parent.rglob("axe.min.js")).read_text()
    p.page.mouse.move(0, 0)
    session.send("Runtime.evaluate", {"expression": source})
    r = session.send("Runtime.evaluate", {"expression": "axe.run(document, {resultTypes: ['violations']}).then(r => JSON.stringify(r.violations.map(v => [v.id, v.nodes.slice(0, 3).map(n => n.html.slice(0, 160) + ' ' + n.failureSummary.slice(0, 250))])))", "awaitPromise": True, "returnByValue": True})
    found = json.loads(r["result"]["value"])
    check("axe: " + what, not found, json.dumps(found, indent=1)[:1500])
    session.detach()


# ---- tests: each gets a fresh page ----

def test_reply(p):
    check("greeting names the model", "tiny" in p.inner_text("#hello"))
    check("nothing to send yet", p.locator("#send").is_disabled())
    p.send("hello")
    check("message and reply", p.texts() == ["hello", "Hello there, this is a reply to “hello”."], p.texts())
    stat = p.last().locator(".stat").inner_text()
    check("figures", re.search(r"\d+ tokens · [\d.]+ tokens/s · first after [\d.]+ m?s · 32 of 40 cached", stat), stat)
    check("context", "of 4096" in p.inner_text("#room"), p.inner_text("#room"))
    rq = fake.S.requests[-1]
    check("request", rq == {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "stream": True, "stream_options": {"include_usage": True}}, rq)
    p.send("again")
    check("history goes along", [m["role"] for m in fake.S.requests[-1]["messages"]] == ["user", "assistant", "user"])
    check("title", p.title() == "hello · drover", p.title())
    check("the last state is said", "reply to “again”" in p.inner_text("#say"), p.inner_text("#say"))
    p.page.reload()
    p.page.wait_for_selector("body[data-ready]")
    check("kept over a reload", len(p.texts()) == 4, p.texts())


def test_markdown(p):
    p.send("md")
    body = p.last()
    for sel, n in [("h3", 1), ("h4", 1), ("strong", 2), ("em", 1), ("del", 1), ("ol > li", 3), ("ol ul > li", 2), ("input[type=checkbox]", 2), ("blockquote", 1), (".code", 1), ("table", 1), ("tbody tr", 3), ("math", 2), ("mfrac", 1), ("hr", 1), ("a[rel~=noopener]", 2)]:
        check("markdown has " + sel, body.locator(".prose " + sel).count() == n, body.locator(".prose " + sel).count())
    check("code is exact", p.evaluate("document.querySelector('.code code').textContent").startswith("# primes below n") and p.evaluate("document.querySelector('.code code').childNodes.length") == 1)
    marks = p.evaluate("""['kw', 'rem', 'str', 'num', 'fn'].map(k => [...CSS.highlights.get('c-' + k)].filter(r => r.startContainer === document.querySelector('.code code').firstChild)
        .map(r => r.startContainer.data.slice(r.startOffset, r.endOffset)))""")
    check("code is coloured", marks == [["def", "for", "in", "if", "return", "for", "in", "if"], ["# primes below n, by Eratosthenes"], ['"found"'], ["1", "2", "0.5", "1", "2", "1_000"], ["primes", "bytearray", "range", "int", "bytes", "len", "range", "range", "print", "len", "primes"]], marks)
    p.evaluate("document.querySelector('.code').scrollIntoView()")
    check("only the messages scroll", p.evaluate("scrollY + document.body.scrollTop") == 0 and p.evaluate("document.querySelector('#composer').getBoundingClientRect().bottom <= innerHeight"))
    p.locator(".code").get_by_role("button", name="Copy").click()
    check("code is copied", p.evaluate("navigator.clipboard.readText()") == p.evaluate("document.querySelector('.code code').textContent"))
    p.locator(".code").get_by_role("button", name="Wrap").click()
    check("code wraps", p.evaluate("getComputedStyle(document.querySelector('.code pre')).whiteSpace.includes('wrap')"))
    # what was drawn while it grew is what drawing it whole gives
    grown = p.evaluate("document.querySelector('.msg:last-child .prose').innerHTML")
    p.page.reload()
    p.page.wait_for_selector("body[data-ready]")
    fresh = p.evaluate("document.querySelector('.msg:last-child .prose').innerHTML")
    strip = lambda s: s.replace(' data-own-wrap=""', "").replace('aria-pressed="true"', 'aria-pressed="false"')
    check("streamed and whole are the same elements", strip(grown) == strip(fresh))


def test_flicker(p):
    """While a text grows, no shown word disappears, no finished block is made anew, no mark flashes."""
    r = p.evaluate("""async sample => {
        const {Stream} = await import('/web/md.js');
        const box = document.createElement('div');
        document.body.append(box);
        const s = new Stream(box);
        const bad = [], marks = [];
        let before = '', maths = 0;
        for (let n = 1; n <= sample.length; n++) {
            const first = box.children.length > 1 ? [...box.children].slice(0, -1) : [];
            s.put(sample.slice(0, n));
            first.forEach((el, i) => { if (box.children[i] !== el) bad.push('block ' + i + ' replaced at ' + n); });
            const text = box.textContent;
            if (text.length < before.length - 2 && box.querySelectorAll('math').length === maths) bad.push('shrank at ' + n + ': ' + JSON.stringify(before.slice(-30)) + ' -> ' + JSON.stringify(text.slice(-30)));
            const prose = [...box.querySelectorAll('p, li, h3, h4, td, th')].map(e => e.textContent).join('\\n');
            if (/\\*\\*|~~|(^|\\s)`|\\]\\(|^#|^\\|/m.test(prose)) marks.push(n + ': ' + prose.slice(-40));
            before = text;
            maths = box.querySelectorAll('math').length;
        }
        box.remove();
        return {bad, marks};
    }""", fake.SAMPLE)
    check("nothing shrinks or is replaced", not r["bad"], r["bad"][:5])
    check("no mark is shown while it is open", not r["marks"], r["marks"][:5])


def test_random(p):
    """Texts of random marks, growing by random steps: the elements are those of the whole text drawn at once, the
    letters are all there and in order, and every text is drawn in time that grows with its length."""
    r = p.evaluate(r"""async () => {
        const {Stream, render} = await import('/web/md.js');
        let seed = 7;
        const rnd = n => { seed = Math.imul(seed ^ seed >>> 15, 0x2c1b3c6d) + 0x9e3779b9 | 0; return ((seed ^ seed >>> 13) >>> 0) % n; };
        const parts = ['a', 'b', 'word', ' ', ' ', ' ', '\n', '\n', '\n\n', '*', '**', '_', '~~', '`', '```\n', '```py\n', '# ', '## ', '- ', '* ', '1. ', '2. ', '> ', '|', '| a | b |\n', '|---|---|\n', '---\n', '    ', '  ', '[', ']', '(', ')', '!', '$', '$$', '\\', '\\(', '\\)', '&amp;', '<br>', '<', '>', ':', '[ ] ', '^', '{', '}'];
        const bad = [];
        for (let n = 0; n < 1500; n++) {
            let text = '';
            for (let k = rnd(40) + 3; k > 0; k--) text += parts[rnd(parts.length)];
            const grown = document.createElement('div'), whole = document.createElement('div');
            document.body.append(grown, whole);
            const s = new Stream(grown);
            for (let i = 1; i < text.length; i += 1 + rnd(6)) s.put(text.slice(0, i));
            s.end(text);
            render(text, whole);
            if (!grown.isEqualNode(whole)) bad.push(['grown', text, grown.innerHTML, whole.innerHTML]);
            const letters = t => t.replace(/&amp;|<br>|```py|\\(?:left|right|begin|end)/g, '').replace(/[^abwordpy]/g, '');
            const clone = whole.cloneNode(true);
            clone.querySelectorAll('.code-bar, math').forEach(e => e.remove());
            if (!/[$\\[`~]/.test(text) && letters(clone.textContent) !== letters(text)) bad.push(['lost', text, whole.innerHTML]);
            grown.remove();
            whole.remove();
            if (bad.length > 3) break;
        }
        const slow = [];
        for (const [k, t] of Object.entries({deep: '*a '.repeat(3000) + 'a* '.repeat(3000), stars: '*a '.repeat(7000), brackets: '['.repeat(20000), ticks: '`a``b```c'.repeat(2000), marks: '**_'.repeat(7000), tex: '\\('.repeat(10000), dollars: '$x'.repeat(10000), quotes: '> '.repeat(10000) + 'x', fractions: '$$' + '\\frac{'.repeat(3000) + '$$', spaces: '# ' + ' '.repeat(20000) + 'x', links: '[a](b '.repeat(4000), parens: '[a](('.repeat(4000), nested: Array.from({length: 200}, (_, i) => ' '.repeat(2 * i) + '- x').join('\n')})) {
            const box = document.createElement('div'), t0 = performance.now();
            render(t, box);
            if (performance.now() - t0 > 3000) slow.push([k, performance.now() - t0]);
        }
        return {bad, slow};
    }""")
    check("random texts grow to what they are", not r["bad"], json.dumps(r["bad"], indent=1)[:2500])
    check("no text takes long", not r["slow"], r["slow"])


def test_safety(p):
    p.send("evil")
    check("no script ran", p.evaluate("window.hacked") is None)
    check("no element from HTML", p.locator(".msg .prose img, .msg .prose script").count() == 0)
    check("no link but safe ones", all(re.match(r"https?:", a) for a in p.evaluate("[...document.querySelectorAll('.prose a')].map(a => a.getAttribute('href'))")))
    check("a picture is a link", p.locator(".prose a:has-text('p')").count() == 1 and p.locator(".prose .nolink").count() == 2)
    check("HTML is shown as written", "<script>window.hacked = 1</script>" in p.texts()[-1])
    try:
        p.evaluate("document.body.innerHTML = '<b>x</b>'")
        check("the policy forbids innerHTML", False)
    except Exception as e:
        check("the policy forbids innerHTML", "TrustedHTML" in str(e), e)


def test_stop(p):
    before = fake.S.cancelled
    p.send("slow " + "word " * 8, wait=False)
    p.until("document.querySelector('.msg:last-child .prose')?.textContent.length > 10")
    check("a live figure", True)
    p.page.press("#input", "Escape")
    p.settled()
    check("stopped is said", "Stopped." in p.texts()[-1], p.texts())
    end = time.time() + 5
    while fake.S.cancelled == before and time.time() < end:
        time.sleep(0.05)
    check("the server hears of it", fake.S.cancelled == before + 1)
    p.last().get_by_role("button", name="Continue").click()
    p.settled()
    rq = fake.S.requests[-1]
    check("continued from there", rq.get("continue_final_message") is True and rq["messages"][-1]["role"] == "assistant" and p.texts()[-1].endswith("and so it went on."), p.texts()[-1])
    p.send("slow x", wait=False)
    p.page.wait_for_selector("#send[aria-label=Stop]")
    p.page.click("#send")
    p.settled()
    check("stopped by the button", "Stopped." in p.texts()[-1])


def test_branches(p):
    p.send("one")
    p.send("two")
    p.act("Ask again")
    p.settled()
    check("a second version", p.last().locator(".which").inner_text() == "2/2")
    p.act("Version before")
    check("the first version", p.last().locator(".which").inner_text() == "1/2")
    p.act("Edit", 0)
    p.page.locator(".edit").fill("uno")
    p.page.locator(".edit").press("Control+Enter")
    p.settled()
    check("edited makes a branch", p.texts()[0] == "uno" and len(p.texts()) == 2, p.texts())
    p.act("Version before", 0)
    check("the old branch is whole", len(p.texts()) == 4 and p.texts()[0] == "one", p.texts())
    p.act("Edit", 3)
    p.page.locator(".edit").fill("My own words")
    p.page.get_by_role("button", name="Save as a version").click()
    check("a reply edited", p.texts()[-1] == "My own words")
    p.act("New chat from here", 1)
    check("a new chat from there", len(p.texts()) == 2 and p.locator("#chats li").count() == 2)
    p.act("Delete from here", 1)
    check("deleted", len(p.texts()) == 1)
    p.page.click("#toast button")
    check("and back", len(p.texts()) == 2)
    p.page.press("#input", "ArrowUp")
    check("up edits the last message", p.page.locator(".edit").input_value() == "one")
    p.page.keyboard.press("Escape")
    check("escape leaves it", p.locator(".edit").count() == 0)


def test_settings(p):
    p.page.click("#tune")
    d = p.page.locator("#panel")
    check("a dialog with a name", d.get_attribute("open") is not None)
    d.get_by_label("System prompt").fill("Be brief.")
    for label, v in [("Temperature", "0.3"), ("Top p", "0.9"), ("Top k", "40"), ("Min p", "0.05"), ("Repetition penalty", "1.1"), ("Presence penalty", "0.5"), ("Frequency penalty", "-0.5"), ("Longest reply", "77"), ("Seed", "7")]:
        d.get_by_label(label, exact=True).fill(v)
    d.get_by_label("Stop at").fill("END\n###")
    d.get_by_label("Format").select_option("json_schema")
    d.get_by_label("Schema or grammar").fill('{"type": "object"')
    check("a wrong schema is said", "not JSON" in d.locator(".bad:visible").inner_text())
    d.get_by_label("Schema or grammar").fill('{"type": "object"}')
    d.get_by_label("Temperature", exact=True).fill("9")
    check("a wrong number is said", "From 0 to 2" in d.locator(".bad:visible").inner_text())
    d.get_by_label("Temperature", exact=True).fill("0.3")
    p.shot("settings")
    axe(p, "settings")
    d.get_by_role("button", name="Use for new chats").click()
    d.get_by_role("button", name="Done").click()
    check("the chip says it", "temperature 0.3" in p.inner_text("#chip"))
    p.send("hello")
    rq = fake.S.requests[-1]
    want = {"temperature": 0.3, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1, "presence_penalty": 0.5, "frequency_penalty": -0.5, "max_tokens": 77, "seed": 7, "stop": ["END", "###"], "response_format": {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": {"type": "object"}}}}
    check("all are sent", {k: rq.get(k) for k in want} == want and rq["messages"][0] == {"role": "system", "content": "Be brief."}, rq)
    p.page.click("#new")
    p.send("hello")
    check("new chats begin so", fake.S.requests[-1]["seed"] == 7)
    p.page.click("#tune")
    p.page.locator("#panel").get_by_role("button", name="Reset").click()
    p.send("hello")
    check("reset", "seed" not in fake.S.requests[-1] and fake.S.requests[-1]["messages"][0]["role"] == "user")
    p.page.select_option("#model", "tiny-poet")
    p.send("hello")
    check("an adapter is chosen", fake.S.requests[-1]["model"] == "tiny-poet" and p.page.locator("#model optgroup").get_attribute("label") == "tiny")


def test_tools(p):
    p.page.click("#tune")
    d = p.page.locator("#panel")
    d.get_by_label("Tools", exact=True).fill('[{"name": "get_weather", "description": "d", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}, {"name": "get_time"}]')
    d.get_by_label("Use of tools").select_option("required")
    d.get_by_role("button", name="Done").click()
    p.send("tool two")
    rq = fake.S.requests[-1]
    check("tools are sent", [t["function"]["name"] for t in rq["tools"]] == ["get_weather", "get_time"] and rq["tool_choice"] == "required")
    check("calls are shown", p.last().locator(".call header code").all_inner_texts() == ["get_weather", "get_time"] and "Bern" in p.texts()[-1])
    p.shot("tools")
    axe(p, "tool calls")
    p.page.get_by_label("Result of get_weather").fill("sunny, 21 °C")
    p.page.get_by_label("Result of get_time").fill("12:00")
    p.page.get_by_role("button", name="Send the results").click()
    p.settled()
    m = fake.S.requests[-1]["messages"]
    check("results go back", [x["role"] for x in m] == ["user", "assistant", "tool", "tool"] and m[1]["tool_calls"][1]["id"] == "call_1" and m[2] == {"role": "tool", "tool_call_id": "call_0", "content": "sunny, 21 °C"}, m)
    check("and the reply comes", p.texts()[-1] == "The tool said: 12:00", p.texts()[-1])


def test_errors(p):
    p.send("error")
    check("what the server says is shown", "temperature is 9" in p.texts()[-1], p.texts())
    fake.S.busy = 0
    p.send("busy", wait=False)
    p.page.wait_for_selector("text=The server is busy")
    p.settled()
    check("asked again when it may be", fake.S.busy == 2 and "reply to “busy”" in p.texts()[-1], p.texts())
    p.send("break")
    check("a reply that breaks off keeps what came", "Hello there, this" in p.texts()[-1] and "before it was complete" in p.texts()[-1], p.texts()[-1])
    p.page.context.set_offline(True)
    p.send("hello")
    check("no server", "cannot be reached" in p.texts()[-1], p.texts()[-1])
    p.page.context.set_offline(False)
    p.last().get_by_role("button", name="Try again").click()
    p.settled()
    check("again", "reply to “hello”" in p.texts()[-1], p.texts()[-1])
    p.send("length")
    check("cut off is said", "Cut off" in p.texts()[-1])
    p.send("think")
    check("thoughts are apart", p.last().locator("details.think").count() == 1 and p.last().locator("details.think").get_attribute("open") is None and p.last().locator(".body > .prose").inner_text() == "The answer is 4.")


def test_key(p):
    fake.S.key = "secret"
    try:
        p.page.goto(p.url)
        p.page.reload()
        p.page.wait_for_selector("dialog[open]")
        p.page.get_by_label("Key", exact=True).fill("secret")
        p.page.get_by_role("button", name="Use it").click()
        p.until("document.querySelector('#model').value === 'tiny'")
        p.send("hello")
        check("with the key it answers", "reply to" in p.texts()[-1])
        check("the key is not kept for good", p.evaluate("localStorage.getItem('drover.key')") is None)
        p.page.reload()
        p.page.wait_for_selector("body[data-ready]")
        check("this tab keeps it", p.locator("dialog[open]").count() == 0)
    finally:
        fake.S.key = None


def test_lists(p):
    for w in ("apples", "pears", "plums"):
        p.send("hello " + w)
        p.page.click("#new")
    check("three chats", p.locator("#chats li").count() == 3)
    p.page.keyboard.press("Control+k")
    p.page.keyboard.type("pears")
    check("found", p.locator("#chats li").count() == 1)
    p.page.locator("#chats li a").click()
    check("opened", p.texts()[0] == "hello pears")
    p.page.fill("#find", "")
    p.page.click("#more > summary")
    p.page.get_by_role("button", name="Rename…").click()
    p.page.get_by_label("Title").fill("Fruit")
    p.page.get_by_role("button", name="Save").click()
    p.page.wait_for_selector("#chats >> text=Fruit")
    files = {}
    for what in ("Export as Markdown", "Export with all branches", "Export as API messages", "Export all conversations"):
        p.page.click("#more > summary")
        with p.page.expect_download() as d:
            p.page.get_by_role("button", name=what).click()
        files[what] = pathlib.Path(d.value.path()).read_text()
    check("markdown", files["Export as Markdown"].startswith("# Fruit\n\n## You\n\nhello pears\n"), files["Export as Markdown"])
    check("messages", [m["role"] for m in json.loads(files["Export as API messages"])["messages"]] == ["user", "assistant"])
    check("all", len(json.loads(files["Export all conversations"])["chats"]) == 3)
    for c in range(3):
        p.page.locator("#chats li .icon").first.click()
    p.until("document.querySelectorAll('#chats li').length === 0")
    (OUT / "all.json").write_text(files["Export all conversations"])
    p.page.set_input_files("#import-file", str(OUT / "all.json"))
    p.until("document.querySelectorAll('#chats li').length === 3")
    check("imported", p.locator("#chats >> text=Fruit").count() == 1)
    (OUT / "bad.json").write_text('{"chats": [{"nodes": 1}]}')
    p.page.set_input_files("#import-file", str(OUT / "bad.json"))
    p.page.wait_for_selector("#toast >> text=holds no conversations")
    (OUT / "m.json").write_text(files["Export as API messages"])
    p.page.set_input_files("#import-file", str(OUT / "m.json"))
    p.until("document.querySelectorAll('#chats li').length === 4")
    p.page.reload()
    p.page.wait_for_selector("body[data-ready]")
    check("kept", p.locator("#chats li").count() == 4)


def test_tokens(p):
    p.page.click("#tune")
    p.page.get_by_label("Keep each token’s probability").check()
    p.page.get_by_role("button", name="Done").click()
    p.send("hello")
    p.act("Tokens and their probabilities")
    n = p.last().locator(".tok").count()
    check("tokens are shown", n > 5 and "".join(p.last().locator(".tok").all_text_contents()).startswith("Hello there"))
    p.last().locator(".tok").nth(4).click()
    check("others that were likely", "8.2 %" in p.last().locator(".alts").inner_text(), p.last().locator(".alts").inner_text())
    p.shot("tokens")
    axe(p, "tokens")
    p.page.get_by_role("button", name="go on with it").click()
    p.settled()
    check("goes on with another token", fake.S.requests[-1]["messages"][-1]["content"] == "Hello there,xy" or fake.S.requests[-1]["messages"][-1]["content"].endswith("xy"), fake.S.requests[-1]["messages"])


def test_files(p):
    f = OUT / "note.py"
    f.write_text("print('hi')\n")
    p.page.set_input_files("#files", str(f))
    p.until("document.querySelector('#input').value.includes('print')")
    check("a file is a block", p.page.input_value("#input") == "note.py:\n```py\nprint('hi')\n```\n")
    (OUT / "b.bin").write_bytes(b"\xff\x00\xfe")
    p.page.set_input_files("#files", str(OUT / "b.bin"))
    p.page.wait_for_selector("#toast >> text=not a text")
    p.page.press("#input", "Enter")
    p.settled()
    check("shown as code", p.page.locator(".msg.mine .code code").inner_text() == "print('hi')")


def test_keys(p):
    p.send("hello")
    p.page.keyboard.press("Escape")
    p.page.locator("#log").click()
    p.page.keyboard.press("k")
    check("K goes to a message", p.evaluate("document.activeElement.className.startsWith('msg')"))
    p.page.keyboard.press("/")
    check("/ goes to the box", p.evaluate("document.activeElement.id") == "input")
    p.page.keyboard.press("Control+.")
    check("settings", p.locator("#panel[open]").count() == 1)
    p.page.keyboard.press("Escape")
    p.page.click("#help")
    check("shortcuts", "Shift" in p.page.locator("#ask").inner_text())
    axe(p, "shortcuts")
    p.page.keyboard.press("Escape")
    check("focus comes back", p.evaluate("document.activeElement.id") == "help")
    p.page.keyboard.press("Control+Shift+O")
    check("a new chat", p.locator("#log > .msg").count() == 0)
    p.page.fill("#input", "a")
    p.page.press("#input", "Shift+Enter")
    check("shift enter is a line", p.page.input_value("#input") == "a\n")
    p.page.keyboard.press("Control+b")
    check("hidden side", not p.locator("#side").is_visible())
    # everything can be reached and has a name
    p.page.keyboard.press("Control+b")
    p.page.evaluate("document.activeElement.blur()")
    names = []
    for _ in range(30):
        p.page.keyboard.press("Tab")
        names.append(p.evaluate("(e => e.getAttribute('aria-label') || e.labels && e.labels[0] && e.labels[0].textContent || e.textContent)(document.activeElement).trim()"))
    check("tab reaches named things", "New chat" in names and "Message" in names and all(names[:12]), names)


def test_scroll(p):
    p.send("long", wait=False)
    p.until("document.querySelectorAll('.msg:last-child p').length > 30")
    at_end = p.evaluate("(s => s.scrollHeight - s.scrollTop - s.clientHeight)(document.querySelector('#scroll'))")
    check("the end stays in sight", at_end < 60, at_end)
    p.page.mouse.move(700, 300)
    p.page.mouse.wheel(0, -900)
    p.page.wait_for_timeout(150)
    top = p.evaluate("document.querySelector('#scroll').scrollTop")
    p.page.wait_for_timeout(300)
    check("who scrolls up stays there", abs(p.evaluate("document.querySelector('#scroll').scrollTop") - top) < 2)
    p.settled()
    p.page.click("#latest")
    check("back to the end", p.evaluate("(s => s.scrollHeight - s.scrollTop - s.clientHeight)(document.querySelector('#scroll'))") < 5)


def test_reload(p):
    p.send("slow " + "word " * 8, wait=False)
    p.until("document.querySelector('.msg:last-child .prose')?.textContent.length > 12")
    p.page.reload()
    p.page.wait_for_selector("body[data-ready]")
    check("a reload keeps what was written", p.texts()[-1].startswith("Hello there") and "Stopped." in p.texts()[-1] and p.last().get_by_role("button", name="Continue").count() == 1, p.texts())
    p.page.fill("#input", "half a thought")
    p.page.wait_for_timeout(500)
    p.page.reload()
    p.page.wait_for_selector("body[data-ready]")
    check("and what was being typed", p.page.input_value("#input") == "half a thought")
    other = p.context.new_page()
    other.goto(p.url + "/")
    other.wait_for_selector("body[data-ready]")
    p.page.fill("#input", "")
    p.send("hello again")
    end = time.time() + 5
    while "hello again" not in other.inner_text("#log") and time.time() < end:
        other.locator("#chats li a").first.click()
        time.sleep(0.1)
    check("another tab sees it", "reply to “hello again”" in other.inner_text("#log"), other.inner_text("#log"))


def test_two_at_once(p):
    p.send("slow one", wait=False)
    p.page.wait_for_selector("#send[aria-label=Stop]")
    p.page.click("#new")
    p.send("hello two")
    check("another chat meanwhile", "hello two" in p.texts()[0])
    p.page.locator("#chats >> text=slow one").click()
    p.settled()
    check("the first is whole", p.texts()[-1].endswith("“slow one”."), p.texts())


def test_live(p):
    p.page.click("#to-live")
    p.page.wait_for_selector(".tile")
    p.page.wait_for_timeout(3300)
    text = p.inner_text(".tiles")
    for what in ("Tokens a second", "Prompt tokens a second", "Running requests", "Waiting requests", "KV memory in use", "Prompts from the cache", "Time to the first token", "Time for each token", "Memory of the process"):
        check("live: " + what, what in text, text)
    rate = float(p.page.locator(".tile", has_text="Tokens a second").first.locator(".value").inner_text())
    check("live: the rate is the server's", 20 < rate < 60, rate)
    check("live: 64 % cached", "64 %" in text)
    check("live: time by buckets", "80 ms" in p.page.locator(".tile", has_text="first token").inner_text() or "ms" in p.page.locator(".tile", has_text="first token").inner_text())
    check("live: models", "tiny-poet" in p.inner_text(".live table") and "adapter of tiny" in p.inner_text(".live table"))
    p.page.go_back()
    p.page.wait_for_selector("#chat:not([hidden])")


TESTS = [v for k, v in list(globals().items()) if k.startswith("test_")]


def looks(browser, url):
    """Screenshots and axe-core of every view, in light, dark and at a phone's width."""
    for name, ctx in [("light", {"color_scheme": "light"}), ("dark", {"color_scheme": "dark"}), ("phone", {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}), ("phone-dark", {"color_scheme": "dark", "viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True})]:
        ctx.setdefault("viewport", {"width": 1280, "height": 860})
        p = Page(browser, url, **ctx)
        p.shot(name + "-empty")
        axe(p, name + " empty")
        p.send("md")
        p.send("hello there")
        p.shot(name + "-chat")
        axe(p, name + " chat")
        p.evaluate("document.querySelector('#scroll').scrollTop = 0")
        p.page.wait_for_timeout(80)
        p.shot(name + "-chat-top")
        p.evaluate("document.querySelector('#scroll').scrollTop = 720")
        p.page.wait_for_timeout(80)
        p.shot(name + "-chat-middle")
        wide = p.evaluate("Math.max(...[...document.querySelectorAll('.bar, .msg, .msg > *, .prose, .prose > *, .acts > *, .box')].map(e => e.getBoundingClientRect().right)) - innerWidth")
        check(name + ": nothing is wider than the page", wide <= 0, wide)
        if "phone" in name:
            p.page.click("#side-open")
            p.page.wait_for_timeout(80)
            p.shot(name + "-side")
            axe(p, name + " side")
            p.page.click("#to-live")
        else:
            p.page.click("#to-live")
        p.page.wait_for_selector(".tile")
        p.page.wait_for_timeout(4200)
        p.shot(name + "-live")
        axe(p, name + " live")
        p.page.go_back()
        p.page.wait_for_selector("#chat:not([hidden])")
        p.page.click("#tune")
        p.shot(name + "-settings")
        axe(p, name + " settings")
        p.page.keyboard.press("Escape")
        p.send("error")
        p.send("tool")
        p.shot(name + "-tools")
        axe(p, name + " tools, error")
        p.close()
    # the buttons change the colours over the system's
    p = Page(browser, url, color_scheme="light")
    for want in ("light", "dark", None):
        p.page.click("#theme")
        check(f"theme {want}", p.evaluate("document.documentElement.dataset.theme || null") == want)
    p.page.click("#theme"), p.page.click("#theme")
    p.page.reload()
    check("theme is kept", p.evaluate("document.documentElement.dataset.theme") == "dark")
    p.close()


def real(browser, drover, model):
    """The page and the program together: a real model writes, stops, goes on; the live page counts it."""
    port = free_port()
    proc = subprocess.Popen([drover, "serve", model, "-p", str(port), "-q", "-t", "1", "--api-key", "page-test-key"], stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        p = Page(browser, url, ready=False, viewport={"width": 1280, "height": 860})
        p.page.set_default_timeout(60000)
        p.page.get_by_label("Key", exact=True).fill("page-test-key")
        p.page.get_by_role("button", name="Use it").click()
        p.page.wait_for_selector("body[data-ready]")
        check("real: a model is there", p.page.locator("#model").input_value() != "", p.inner_text("#model"))
        p.page.click("#tune")
        p.page.get_by_label("Longest reply").fill("60")
        p.page.get_by_label("Temperature", exact=True).fill("0")
        p.page.get_by_label("Keep each token’s probability").check()
        p.page.get_by_role("button", name="Done").click()
        p.send("Name three colours.", timeout=60)
        check("real: it answers", len(p.texts()) == 2 and len(p.texts()[1]) > 10 and p.last().locator(".fail").count() == 0, p.texts())
        stat = p.last().locator(".stat").inner_text()
        check("real: figures", re.search(r"\d+ tokens? · [\d.]+ tokens/s · first after", stat), stat)
        p.act("Tokens and their probabilities")
        n = int(stat.split()[0])
        check("real: a probability for each token", p.last().locator(".tok").count() == n, (p.last().locator(".tok").count(), stat))
        p.shot("real-tokens")
        p.act("Tokens and their probabilities")
        p.send("Count from 1 to 100.", wait=False)
        p.until("document.querySelector('.msg:last-child .prose')?.textContent.length > 20")
        p.page.keyboard.press("Escape")
        p.settled()
        check("real: stopped", "Stopped." in p.texts()[-1] or "Cut off" in p.texts()[-1], p.texts()[-1])
        p.last().get_by_role("button", name="Continue").click()
        p.settled()
        check("real: goes on", p.last().locator(".fail").count() == 0, p.texts()[-1])
        p.shot("real-chat")
        p.page.click("#new")
        p.page.click("#tune")
        d = p.page.locator("#panel")
        d.get_by_label("Tools", exact=True).fill('{"name": "get_weather", "description": "the weather of a city", "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"], "additionalProperties": false}}')
        d.get_by_label("Use of tools").select_option("required")
        d.get_by_label("Longest reply").fill("100")
        d.get_by_label("Temperature", exact=True).fill("0")
        d.get_by_role("button", name="Done").click()
        p.send("What is the weather in Bern?", timeout=60)
        check("real: a tool is called", p.last().locator(".call header code").all_inner_texts() == ["get_weather"] and p.last().locator(".call dt").all_inner_texts() == ["city"], p.texts())
        p.page.get_by_label("Result of get_weather").fill("sunny")
        p.page.click("#tune")
        d.get_by_label("Use of tools").select_option("none")
        d.get_by_role("button", name="Done").click()
        p.page.get_by_role("button", name="Send the result").click()
        p.settled(60)
        check("real: and its result is read", len(p.texts()) == 4 and p.last().locator(".fail").count() == 0, p.texts())
        p.shot("real-tool")
        p.page.click("#new")
        p.page.click("#tune")
        d.get_by_label("Format").select_option("json_schema")
        d.get_by_label("Schema or grammar").fill('{"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 1, "maximum": 99}}, "required": ["name", "age"], "additionalProperties": false}')
        d.get_by_role("button", name="Done").click()
        p.send("Invent a person.", timeout=60)
        try:
            v = json.loads(p.last().locator(".body .prose").inner_text())
        except ValueError:
            v = {}
        check("real: JSON by the schema", set(v) == {"name", "age"}, p.texts())
        p.page.click("#tune")
        d.get_by_label("Format").select_option("text")
        d.get_by_label("Temperature", exact=True).fill("2")
        d.get_by_role("button", name="Reset").click()
        p.page.evaluate("localStorage.setItem('drover.defaults', JSON.stringify({sampling: {max_tokens: 99999999}}))")
        p.page.click("#new")
        p.send("hello", timeout=60)
        check("real: the server's own words at an error", p.last().locator(".fail").count() == 1 and "max_tokens" in p.last().locator(".fail").inner_text(), p.texts())
        p.page.evaluate("localStorage.removeItem('drover.defaults')")
        p.page.click("#to-live")
        p.page.wait_for_selector(".tile")
        p.page.wait_for_timeout(2500)
        check("real: the live page counts", "Running requests" in p.inner_text(".tiles") and "KV memory" in p.inner_text(".tiles"), p.inner_text("#live"))
        p.shot("real-live")
        axe(p, "real live")
        p.close()
    finally:
        proc.terminate()
        check("real: SIGTERM ends it with 0", proc.wait(30) == 0)


def compare_markdown(p, url):
    """The renderer beside markdown-it-py, an independent reader of CommonMark, where both mean the same."""
    try:
        from markdown_it import MarkdownIt
    except ImportError:
        print("skip markdown beside markdown-it-py: not installed")
        return
    md = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"]).disable(["lheading", "reference"])
    texts = json.loads((fake.HERE / "markdown.json").read_text())
    ours = p.evaluate("""async texts => {
        const {blocks, show} = await import('/web/md.js');
        const flat = el => [...el.childNodes].map(n => n.nodeType === 3 ? n.data.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;')
            : n.matches('.code') ? '<pre>' + flat(n.querySelector('code')) + '</pre>' : n.matches('.table') ? flat(n)
            : '<' + n.localName + (n.localName === 'a' && n.getAttribute('href') ? ' ' + n.getAttribute('href') : '') + (n.start > 1 ? ' ' + n.start : '') + '>' + flat(n) + '</' + n.localName + '>').join('');
        return texts.map(t => { const d = document.createElement('div'); d.append(...blocks(t.split('\\n')).map(b => show(b, false))); return flat(d); });
    }""", texts)
    norm = lambda s: re.sub(r"\s+", " ", re.sub(r">\s+<", "><", s)).replace("> ", ">").replace(" <", "<").strip()

    def theirs(t):
        s = md.render(t)
        s = re.sub(r'<pre><code[^>]*>(.*?)</code></pre>', lambda m: "<pre>" + m.group(1).rstrip("\n") + "</pre>", s, flags=re.S)
        s = re.sub(r"<h(\d)>", lambda m: f"<h{min(6, int(m.group(1)) + 2)}>", s)
        s = re.sub(r"</h(\d)>", lambda m: f"</h{min(6, int(m.group(1)) + 2)}>", s)
        s = re.sub(r'<a href="([^"]*)"[^>]*>', lambda m: "<a " + m.group(1).replace("&amp;", "&") + ">", s)
        s = re.sub(r'<ol start="(\d+)">', lambda m: f"<ol {m.group(1)}>" if int(m.group(1)) > 1 else "<ol>", s)
        s = s.replace("<br />", "<br></br>").replace("<hr />", "<hr></hr>").replace("<s>", "<del>").replace("</s>", "</del>").replace("&quot;", '"')
        return re.sub(r"<(t[hd]) style=[^>]*>", r"<\1>", s)
    for t, o in zip(texts, ours):
        check("markdown " + json.dumps(t), norm(o) == norm(theirs(t)), "\n  ours   " + norm(o) + "\n  theirs " + norm(theirs(t)))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    port = PORT or free_port()
    threading.Thread(target=lambda: asyncio.run(fake.main(port)), daemon=True).start()
    time.sleep(0.3)
    url = f"http://127.0.0.1:{port}"
    only = os.environ.get("ONLY", "").split()
    with sync_playwright() as pw:
        browser = pw.chromium.launch(executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"])
        for t in TESTS:
            if only and t.__name__[5:] not in only:
                continue
            p = None
            try:
                p = Page(browser, url, viewport={"width": 1280, "height": 860})
                t(p)
            except Exception:
                check(t.__name__, False, traceback.format_exc()[-1500:])
                if p:
                    p.shot("failed-" + t.__name__)
            if p:
                p.close()
        if not only or "markdown_it" in only:
            p = Page(browser, url)
            compare_markdown(p, url)
            p.close()
        if not only or "looks" in only:
            try:
                looks(browser, url)
            except Exception:
                check("looks", False, traceback.format_exc()[-1500:])
        if len(sys.argv) > 3 and (not only or "real" in only):
            try:
                real(browser, sys.argv[2], sys.argv[3])
            except Exception:
                check("real", False, traceback.format_exc()[-1500:])
        else:
            print("skip the page with a real model")
        check("no error on the console, no other host asked", not problems, problems[:5])
        browser.close()
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0 or passed == 0)


main()
