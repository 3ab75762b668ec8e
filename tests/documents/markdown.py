"""The documents, cut into prose and fenced blocks."""

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[2]
PATTERNS = ["*.md", "docs/**/*.md", "bench/*.md", "crates/*/README.md", "fuzz/README.md", "tests/vectors/README.md"]
LANGUAGES = {"sh", "text", "yaml", "json", "mermaid", "python", "rust", "toml", "js", "go", "java"}


@dataclass(frozen=True)
class Block:
    """A fenced block, and the line at which its content begins."""

    language: str
    line: int
    text: str


class Document:
    """A Markdown file; `prose` has its lines with those of fenced blocks emptied, so that places stay."""

    def __init__(self, path):
        self.path = path
        self.name = str(path.relative_to(ROOT))
        self.text = path.read_text()
        self.blocks = []
        self.faults = []
        prose, block = [], None
        for number, line in enumerate(self.text.splitlines(), 1):
            fence = line.lstrip()
            if not fence.startswith("```"):
                (prose if block is None else block[2]).append(line)
                if block is not None:
                    prose.append("")
                continue
            prose.append("")
            if block is None:
                language = fence[3:].split(",")[0]
                if language not in LANGUAGES:
                    self.fault(number, f"a block has the language {language!r}; known are {', '.join(sorted(LANGUAGES))}")
                block = (language, number + 1, [])
            else:
                self.blocks.append(Block(block[0], block[1], dedent("\n".join(block[2]) + "\n")))
                block = None
        if block is not None:
            self.fault(block[1], "a block has no end")
        for number in range(1, len(prose)):
            # Below a list item four spaces would be a paragraph of it; three are used for that here.
            if prose[number].startswith("    ") and not prose[number - 1].strip():
                self.fault(number + 1, "an indented block: fence it, with its language")
        self.prose = "\n".join(prose)

    def fault(self, line, text):
        self.faults.append(f"{self.name}:{line}: {text}")

    def inline_code(self):
        """The line and the text of each `code` in the prose."""
        for found in re.finditer(r"`([^`]+)`", self.prose):
            yield self.prose.count("\n", 0, found.start()) + 1, " ".join(found[1].split())

    def anchors(self):
        """The anchors of its headings, as GitHub makes them."""
        anchors = set()
        for line in self.prose.splitlines():
            if heading := re.match(r"#+ +(.*)", line):
                kept = re.sub(r"[^\w\- ]", "", heading[1].strip().lower())
                anchors.add(kept.replace(" ", "-"))
        return anchors


def documents():
    found = {path for pattern in PATTERNS for path in ROOT.glob(pattern)}
    return [Document(path) for path in sorted(found)]
