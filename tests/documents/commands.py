"""Every command that a document shows is one: the binary itself parses those of countersign."""

import functools
import re
import shlex
import subprocess
import sys

import executed
from markdown import ROOT

MADE = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)
HEREDOC = re.compile(r"<<-?'?(\w+)'?.*?\n.*?^\1$", re.DOTALL | re.MULTILINE)
# Where a command begins: at a line, behind | ; & ( and some words of the shell, and in a container.
STARTS = re.compile(
    r"(?:^|[|;&(]|\b(?:until|while|if|exec \w+))\s*(?:[A-Z_]+=\S+ )*/?countersign(?= |$)", re.MULTILINE
)
# What stands in a document for a value that the binary looks at.
KEY = "I04zmu5p7D2IbFzusZSFVU+I5bbh9qZnDwUUFN69vlo="
STAND_INS = {"$KEY": KEY, "MCowBQYDK2VwAyEA...": KEY, "$HEAD": f"1:{'0' * 64}", "$(cat head.txt)": f"1:{'0' * 64}"}


class Commands:
    """Checks commands with the binary, and counts them."""

    def __init__(self, binary):
        self.binary = binary
        self.version = subprocess.check_output([binary, "--version"], text=True).split()[1]
        self.targets = set(MADE.findall((ROOT / "Makefile").read_text()))

    def check(self, document):
        """Returns how many commands of countersign and targets of make the document has, and other lines of shell."""
        parsed = targets = others = 0
        for block in document.blocks:
            if block.language == "python" and document.name not in executed.BY_CLIENT_TESTS:
                run = subprocess.run([sys.executable, "-c", block.text], cwd=ROOT, capture_output=True, text=True)
                if run.returncode:
                    document.fault(block.line, f"this does not run: {run.stderr.strip()}")
            if block.language != "sh":
                continue
            syntax = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True)
            if syntax.returncode:
                document.fault(block.line, f"bash does not parse this: {syntax.stderr.strip()}")
            found, made, rest = self.of_shell(block.text)
            parsed += len(found)
            targets += len(made)
            others += rest
            for offset, command in found:
                self._parse(document, block.line + offset, command)
            for offset, target in made:
                self._make(document, block.line + offset, target)
        for line, code in document.inline_code():
            if re.match(r"countersign( |$)", code) and not re.search(r"[{<]|\.\.$", code):
                parsed += 1
                self._parse(document, line, shlex.split(code)[1:])
            if target := re.match(r"make ([a-z][a-z-]*)", code):
                targets += 1
                self._make(document, line, target[1])
        return parsed, targets, others

    @staticmethod
    def of_shell(text):
        """The commands of countersign (as words) and the targets of make, by line, and how many other lines."""
        text = HEREDOC.sub(lambda found: "\n" * found[0].count("\n"), text)
        text = text.replace("\\\n", " \x00")  # a command that goes on; the mark keeps the count of lines
        commands, targets, others = [], [], 0
        for start in STARTS.finditer(text):
            line = text.count("\n", 0, start.end()) + text.count("\x00", 0, start.end())
            commands.append((line, _words(text[start.end():].replace("\x00", ""))))
        for number, line in enumerate(text.replace("\x00", "").splitlines()):
            if target := re.match(r"make ([a-z][a-z-]*)", line):
                targets.append((number, target[1]))
            elif line.strip() and not line.lstrip().startswith("#") and "countersign" not in line:
                others += 1
        return commands, targets, others

    def _parse(self, document, line, words):
        if error := self.rejects(tuple(words)):
            document.fault(line, f"countersign {shlex.join(words)}: {error}")

    def _make(self, document, line, target):
        if target not in self.targets:
            document.fault(line, f"make {target}: there is no such target")

    @functools.cache
    def rejects(self, words):
        """What the binary says against these arguments; nothing is done, since `--help` comes last."""
        words = [STAND_INS.get(word, word) for word in words]
        run = subprocess.run([self.binary, *words, "--help"], capture_output=True, text=True, timeout=10)
        return run.stderr.strip().splitlines()[0] if run.returncode else None


def _words(text):
    """The words of the command that the text begins with, up to where the shell ends it."""
    lexer = shlex.shlex(text.split("\n\n")[0], posix=True, punctuation_chars="|;&()<>\n")
    lexer.whitespace = " \t"
    lexer.whitespace_split = True
    lexer.commenters = ""
    words = []
    for word in lexer:
        if word.startswith("#") or not word.strip("|;&()<>\n"):
            break
        words.append(word)
    if words and words[-1].isdigit() and f" {words[-1]}>" in text:
        words.pop()  # the descriptor of a redirection
    return words
