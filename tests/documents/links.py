"""Every path that a document names exists, and every relative link leads somewhere."""

import re

from markdown import ROOT, Document

FOLDERS = "src|crates|clients|docs|conf|tests|bench|fuzz|scripts"
PATH = re.compile(rf"(?<![\w/.:<-])((?:{FOLDERS})/[\w.*/@-]*[\w*/])")
LINK = re.compile(r"\]\(([^)\s]+)\)")
# Files that are no documents and point to documents.
POINTING = ["src/**/*.rs", "crates/**/*.rs", "bench/**/*.rs", "tests/**/*.rs", "tests/**/*.py", "conf/**/*.*",
            "fuzz/*.rs", "Makefile", "Dockerfile"]
POINTER = re.compile(r"(?<![\w/.-])(docs/[\w./-]+\.md)(#[\w-]+)?")


def check(document, linked):
    """Returns how many links and paths the document has; adds what it links to."""
    links = paths = 0
    for found in LINK.finditer(document.prose):
        target, _, anchor = found[1].partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        links += 1
        line = document.prose.count("\n", 0, found.start()) + 1
        path = (document.path.parent / target).resolve() if target else document.path
        linked.add(path)
        if not path.exists():
            document.fault(line, f"the link {found[1]} leads nowhere")
        elif anchor and anchor not in Document(path).anchors():
            document.fault(line, f"the link {found[1]}: there is no such heading")
    named = LINK.sub("]", document.prose)
    for found in PATH.finditer(named):
        paths += 1
        if not any(ROOT.glob(found[1].rstrip("/"))):
            document.fault(named.count("\n", 0, found.start()) + 1, f"{found[1]} does not exist")
    return links, paths


def orphans(documents, linked):
    """The documents below docs/ that no other one links to."""
    lost = [it.name for it in documents if it.name.startswith("docs/") and it.path.resolve() not in linked]
    return [f"{name}: no document links to it" for name in lost]


def check_pointers():
    """Looks for documents that other files point to; returns how many pointers there are, and what is wrong."""
    count, faults = 0, []
    for path in sorted({path for pattern in POINTING for path in ROOT.glob(pattern)}):
        if not path.is_file() or {"node_modules", ".venv"} & set(path.parts):
            continue
        text = path.read_text(errors="replace")
        for found in POINTER.finditer(text):
            count += 1
            target = ROOT / found[1]
            if not target.exists() or found[2] and found[2][1:] not in Document(target).anchors():
                line = text.count("\n", 0, found.start()) + 1
                faults.append(f"{path.relative_to(ROOT)}:{line}: {found[0]} does not exist")
    return count, faults
