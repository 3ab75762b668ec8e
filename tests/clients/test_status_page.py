"""The status page in a real browser: in each state, light and dark, on a small screen, with hostile names."""

import json
import tempfile
import unittest
from pathlib import Path

import backend
from browser import LOOKS, browser
from status_stage import IMAGE, SCRIPT, STATES

# The first line of the page in each state.
HEADLINES = {
    "well": "All is well",
    "starting": "Not ready",
    "quarantine": "Not ready",
    "server-down": "1 thing needs attention",
    "no-server": "Requests fail",
    "credential-refused": "Requests fail",
    "mistakes": "2 things need attention",
    "expiring": "3 things need attention",
    "hostile": "Requests fail",
}


class StatusPage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        opened = browser()
        cls.look = staticmethod(opened.__enter__())
        cls.addClassCleanup(opened.__exit__, None, None, None)
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)

    def staged(self, name):
        return STATES[name](Path(self.folder.name) / self.id() / name)

    def assert_fits(self, page):
        width = page.viewport_size["width"]
        self.assertLessEqual(page.evaluate("document.documentElement.scrollWidth"), width)
        beyond = page.evaluate(
            "w => [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > w + 0.5)"
            ".map(e => e.outerHTML.slice(0, 80))",
            width,
        )
        self.assertEqual(beyond, [])

    def test_each_state_has_its_first_line_fits_the_screen_and_leaves_the_console_empty(self):
        for name, headline in HEADLINES.items():
            with self.subTest(name), self.staged(name) as stage:
                for variant in ("light", "small"):
                    with self.look(stage.admin, variant) as page:
                        self.assertEqual(page.inner_text("h1").strip(), headline, page.inner_text("#verdict"))
                        self.assertTrue(page.title().startswith(headline))
                        self.assert_fits(page)
                        self.assertEqual(page.told, [])

    def test_every_line_about_a_fault_leads_to_its_section(self):
        for name in ("mistakes", "expiring"):
            with self.subTest(name), self.staged(name) as stage, self.look(stage.admin) as page:
                links = page.eval_on_selector_all(".notices a", "all => all.map(a => a.getAttribute('href'))")
                self.assertTrue(links)
                for link in links:
                    self.assertEqual(page.locator(link).count(), 1, link)

    def test_light_and_dark_differ_and_both_have_contrast(self):
        with self.staged("mistakes") as stage:
            grounds = []
            for variant in ("light", "dark"):
                with self.look(stage.admin, variant) as page:
                    grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
                    self.assertGreaterEqual(page.evaluate(LEAST_CONTRAST), 4.5)
            self.assertNotEqual(*grounds)

    def test_hostile_names_are_text(self):
        with self.staged("hostile") as stage:
            for variant in LOOKS:
                with self.look(stage.admin, variant) as page:
                    self.assertEqual(page.locator("script, img, iframe, object").count(), 0)
                    text = page.inner_text("body")
                    self.assertIn(SCRIPT, text)
                    self.assertIn(IMAGE, text)
                    self.assertIn("{{7*7}}", text)
                    self.assertNotIn("\u202e", text)
                    self.assert_fits(page)
                    self.assertEqual(page.told, [])
            told = stage.get("/")[2] + stage.get("/status.json")[2]
            self.assertNotIn(backend.TOKEN, told)

    def test_the_policy_keeps_out_what_got_into_the_page_all_the_same(self):
        with self.staged("well") as stage, self.look(stage.admin) as page:
            page.evaluate(
                """() => {
                    const add = (tag, fields) => document.body.append(Object.assign(document.createElement(tag), fields));
                    add('script', {textContent: 'window.ran = true'});
                    add('style', {textContent: 'h1 { display: none !important }'});
                    add('img', {src: '/livez'});
                    document.querySelector('h1').setAttribute('style', 'display: none');
                }"""
            )
            page.wait_for_timeout(200)
            self.assertIsNone(page.evaluate("window.ran"))
            self.assertTrue(page.locator("h1").is_visible())
            self.assertGreaterEqual(len([told for told in page.told if "Content Security Policy" in told]), 4, page.told)

    def test_page_and_data_tell_the_same(self):
        with self.staged("expiring") as stage, self.look(stage.admin) as page:
            status = json.loads(stage.get("/status.json")[2])
            shown = page.eval_on_selector_all(".notices a", "all => all.map(a => a.innerText)")
            self.assertEqual(shown, [notice["text"] for notice in status["notices"]["rows"]])
            ids = page.eval_on_selector_all("#expiring + ul code", "all => all.map(c => c.innerText)")
            self.assertEqual(ids, [end["id"] for end in status["machines"]["expiring"]["rows"]])
            self.assertEqual(len(ids), 4)

    def test_it_loads_again_only_where_that_was_asked_for(self):
        with self.staged("well") as stage, self.look(stage.admin) as page:
            self.assertEqual(page.locator("meta[http-equiv=refresh]").count(), 0)
            page.get_by_text("Load again every 30 s").click()
            self.assertEqual(page.locator("meta[http-equiv=refresh]").count(), 1)
            page.get_by_text("Stop", exact=True).click()
            self.assertEqual(page.locator("meta[http-equiv=refresh]").count(), 0)
            self.assertEqual(page.told, [])


# The least contrast of any text against what is behind it (WCAG 2.2, 1.4.3).
LEAST_CONTRAST = """() => {
    const parse = c => c.match(/[\\d.]+/g).map(Number);
    const light = c => {
        const [r, g, b] = parse(c).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = e => {
        for (; e; e = e.parentElement) {
            const c = getComputedStyle(e).backgroundColor;
            if (!/, 0\\)$/.test(c)) return c;
        }
        return 'rgb(255, 255, 255)';
    };
    const texts = [...document.querySelectorAll('body *')].filter(e =>
        [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) && e.getClientRects().length);
    return Math.min(...texts.map(e => {
        const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05);
    }));
}"""
