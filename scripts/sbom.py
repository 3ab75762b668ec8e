#!/usr/bin/env python3
"""The bill of materials: the crates that the linker is given for the default build, as CycloneDX.

    scripts/sbom.py write OUT.cdx.json NOTICES.txt    the bill, and the licences of the crates as text
    scripts/sbom.py check OUT.cdx.json BINARY         the bill against Cargo's tree, and against a binary

The linker's command line is the source, because it alone is exact: Cargo's tree also has crates that
only run at build time, or that no code refers to. Debug and release have one list; this reads debug.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import uuid
from datetime import datetime, timezone
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

ROOT = Path(__file__).resolve().parents[1]
CARGO = os.environ.get("CARGO", "cargo")
PROGRAM = "countersign"
# Crates that Cargo's tree has and the linker never sees, since no linked code refers to them.
UNREFERENCED = {
    "const-random": "hands a macro to ahash, which ran at build time",
    "crc": "sqlx-postgres uses it for the lock of its own migrations alone",
    "crc-catalog": "crc depends on it",
    "dotenvy": "sqlx-postgres uses it for its own tests alone",
    "minimal-lexical": "nom depends on it, and its use there is commented out",
}
NOTICES = re.compile(r"(?i)^(licen[cs]e|copying|copyright|notice|unlicense)")
# Where scripts/release puts the sources of crates, and where an ordinary build has them.
SOURCES = re.compile(rb"/registry/src/[^/\0]+/([A-Za-z0-9_-]+?)-(\d+\.[0-9A-Za-z.+-]*)/")


def output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE).stdout


def linked():
    """The ids of the packages whose libraries are on the linker's command line, that of the program with them."""
    with tempfile.NamedTemporaryFile("r") as arguments:
        # A name that is new each time: the program alone is linked again.
        messages = output(CARGO, "rustc", "--locked", "--quiet", "--bin", PROGRAM, "--message-format=json",
                          "--", "--print", f"link-args={arguments.name}")
        words = arguments.read().replace('"', "").split()
    made = {}
    for message in map(json.loads, messages.splitlines()):
        for file in message.get("filenames", []):
            made[os.path.basename(file)] = message["package_id"]
    libraries = [word for word in words if word.endswith(".rlib")]
    ids = {made[os.path.basename(file)] for file in libraries if os.path.basename(file) in made}
    unknown = [file for file in libraries if os.path.basename(file) not in made and "/rustlib/" not in file]
    if unknown or len(ids) < 100:
        sys.exit(f"sbom: the linker's command line was not understood: {len(ids)} crates, unknown: {unknown}")
    return ids


def licence(package):
    # The slash is an old way to write OR.
    return (package["license"] or "").replace("/", " OR ").replace("  ", " ")


def component(package, checksums, kind=ComponentType.LIBRARY):
    found = Component(
        type=kind,
        name=package["name"],
        version=package["version"],
        description=" ".join((package["description"] or "").split()) or None,
        licenses=[LicenseFactory().make_from_string(licence(package))],
        purl=PackageURL("cargo", name=package["name"], version=package["version"]),
        bom_ref=f"{package['name']}@{package['version']}",
    )
    if package["repository"]:
        reference = ExternalReference(type=ExternalReferenceType.VCS, url=XsUri(package["repository"].strip()))
        found.external_references.add(reference)
    if checksum := checksums.get((package["name"], package["version"])):
        found.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=checksum))
    return found


def write(out, notices):
    metadata = json.loads(output(CARGO, "metadata", "--locked", "--format-version=1"))
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    checksums = {(entry["name"], entry["version"]): entry.get("checksum") for entry in lock}
    packages = {package["id"]: package for package in metadata["packages"]}
    ids = linked()
    program = next(id for id in ids if packages[id]["name"] == PROGRAM)

    bom = Bom()
    # The same sources give the same file.
    when = int(output("git", "log", "-1", "--format=%ct"))
    bom.metadata.timestamp = datetime.fromtimestamp(when, timezone.utc)
    components = {id: component(packages[id], checksums) for id in ids - {program}}
    bom.metadata.component = component(packages[program], checksums, ComponentType.APPLICATION)
    components[program] = bom.metadata.component
    rust = output("rustc", "--version").split()[1]
    std = Component(type=ComponentType.LIBRARY, name="std", version=rust, bom_ref=f"std@{rust}",
                    description="The Rust standard library, with what it links",
                    licenses=[LicenseFactory().make_from_string("MIT OR Apache-2.0")],
                    purl=PackageURL("generic", "rust-lang", "std", rust))
    for id in sorted(ids - {program}):
        bom.components.add(components[id])
    bom.components.add(std)
    for node in metadata["resolve"]["nodes"]:
        if node["id"] in ids:
            needs = [components[id] for id in node["dependencies"] if id in ids]
            bom.register_dependency(components[node["id"]], [*needs, std])
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, " ".join(sorted(ids) + [rust]))

    text = JsonV1Dot6(bom).output_as_string(indent=2)
    if fault := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"sbom: the file is not CycloneDX: {fault}")
    out.write_text(text + "\n")
    notices.write_text(licences([packages[id] for id in ids - {program}]))
    print(f"sbom: {len(ids) - 1} crates and std {rust}: {out}")


def licences(packages):
    """Name, licence and notices of each crate; a text that many share stands once."""
    lines = ["Countersign is linked with these crates. The texts that they come with follow.", ""]
    texts = {}
    for package in sorted(packages, key=lambda package: (package["name"], package["version"])):
        name = f"{package['name']} {package['version']}"
        lines.append(f"{name}: {licence(package)}")
        folder = Path(package["manifest_path"]).parent
        for file in sorted(file for file in folder.iterdir() if file.is_file() and NOTICES.match(file.name)):
            text = file.read_text(errors="replace").strip().replace("\r\n", "\n")
            texts.setdefault(text, []).append(f"{name} ({file.name})")
    for text, names in texts.items():
        lines += ["", "=" * 78, *names, "=" * 78, "", text]
    return "\n".join(lines) + "\n"


def check(bill, binary):
    """Compares the bill with two other sources: what Cargo resolves, and the paths inside the binary."""
    listed = {(entry["name"], entry["version"]) for entry in json.loads(bill.read_text())["components"]}
    listed = {pair for pair in listed if pair[0] != "std"}
    host = re.search(r"host: (\S+)", output("rustc", "-vV"))[1]
    tree = output(CARGO, "tree", "--locked", "-p", PROGRAM, "-e", "normal,no-proc-macro", "--target", host,
                  "--prefix", "none", "-f", "{p}")
    resolved = {tuple(line.split(" ")[:2]) for line in tree.splitlines()}
    resolved = {(name, version.removeprefix("v")) for name, version in resolved if name != PROGRAM}
    found = {(name.decode(), version.decode()) for name, version in SOURCES.findall(binary.read_bytes())}
    faults = [f"{name} {version} is on the linker's command line, and Cargo does not resolve it"
              for name, version in sorted(listed - resolved)]
    faults += [f"{name} {version} is resolved, and the linker is not given it: say why in UNREFERENCED"
               for name, version in sorted(resolved - listed) if name not in UNREFERENCED]
    faults += [f"{name} {version} has code in {binary}, and is not in the bill" for name, version in sorted(found - listed)]
    if len(found) < 30:
        faults.append(f"{binary} names the sources of {len(found)} crates only: is it the right file?")
    for fault in faults:
        print(f"sbom: {fault}", file=sys.stderr)
    if not faults:
        print(f"sbom: {len(listed)} crates, as Cargo resolves them; {len(found)} of them name their sources in {binary}")
    return 1 if faults else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, second in (("write", "notices"), ("check", "binary")):
        command = commands.add_parser(name)
        command.add_argument("bill", type=Path)
        command.add_argument(second, type=Path)
    options = parser.parse_args()
    if options.command == "write":
        return write(options.bill, options.notices)
    return check(options.bill, options.binary)


if __name__ == "__main__":
    sys.exit(main())
