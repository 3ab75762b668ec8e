"""The examples of docs/clients.md, as they stand there, and the promises of that page about the files."""

import os
import re
import shutil
import subprocess
import unittest
from pathlib import Path

from signer import CLIENTS, ROOT, has_java
from stage import ThroughTheGateway

PAGE = (ROOT / "docs" / "clients.md").read_text()
ADDRESS = "https://gateway.example"
RUN_SECONDS = 60
FILES = {"python": "countersign.py", "js": "countersign.mjs", "go": "countersign.go", "java": "Countersign.java",
         "sh": "countersign.sh"}
FOLDERS = {"js": "node", "sh": "shell"}


def source(language):
    return CLIENTS / FOLDERS.get(language, language) / FILES[language]


class Examples(ThroughTheGateway):
    def example(self, language):
        """A folder with the signer and the key, and the example's text for this gateway."""
        (text,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
        self.assertIn(ADDRESS, text)
        folder = self.identity(self.web).home
        shutil.copy(self.identity(self.web).key, folder / "key.pem")
        shutil.copy(source(language), folder)
        return folder, text.replace(ADDRESS, self.gateway.url).replace("/secret/db", "/secret/sk_api")

    def output(self, folder, *command):
        environment = os.environ | {"PYTHONPATH": str(folder), "GOFLAGS": "-mod=mod"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_python_reads_with_requests_and_with_httpx(self):
        folder, text = self.example("python")
        (folder / "example.py").write_text(text)
        python = Path(__file__).parent / ".venv" / "bin" / "python"
        self.assertEqual(self.output(folder, python, "example.py"), "a-very-secret-value\n" * 2)

    def test_node_reads(self):
        folder, text = self.example("js")
        (folder / "example.mjs").write_text(text)
        self.assertEqual(self.output(folder, "node", "example.mjs"), "a-very-secret-value\n")

    def test_go_reads(self):
        folder, text = self.example("go")
        (folder / "main.go").write_text(text)
        (folder / "go.mod").write_text("module example\n\ngo 1.19\n")
        (folder / "countersign").mkdir()
        (folder / "countersign.go").rename(folder / "countersign" / "countersign.go")
        self.assertIn("a-very-secret-value", self.output(folder, "go", "run", "."))

    @unittest.skipUnless(has_java(), "there is no javac here")
    def test_java_reads(self):
        folder, text = self.example("java")
        (folder / "Example.java").write_text(text)
        self.output(folder, "javac", "Example.java", "Countersign.java")
        self.assertIn("a-very-secret-value", self.output(folder, "java", "Example"))

    def test_the_shell_reads_and_posts(self):
        folder, text = self.example("sh")
        read, posted = self.output(folder, "sh", "-euc", text).split("}", 1)
        self.assertIn("a-very-secret-value", read)
        self.assertIn('"db": {"status": "changed"}', posted)


class Files(unittest.TestCase):
    def test_each_file_has_less_than_150_lines(self):
        for language in FILES:
            with self.subTest(language):
                self.assertLess(len(source(language).read_text().splitlines()), 150)

    def test_go_is_formatted_and_vetted(self):
        self.assertEqual(subprocess.check_output(["gofmt", "-l", CLIENTS / "go"], text=True), "")
        subprocess.run(["go", "vet", "./..."], cwd=CLIENTS / "go", check=True, timeout=RUN_SECONDS)


if __name__ == "__main__":
    unittest.main()
