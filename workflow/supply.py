"""What the project is made of: `make lock`, `make sbom` and `make audit`.

constraints.txt and constraints-acquire.txt pin every package of the two environments, for every
platform, with the SHA-256 of each of its files; no line names where they come from.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import uuid
from contextlib import contextmanager
from pathlib import Path

from brainvae_core.disk import stoppable

ROOT = Path(__file__).parent.parent
UV = Path(sys.executable).with_name("uv")
LOCKS = ("constraints.txt", "constraints-acquire.txt")
AUDITOR = "pip-audit@2.10.1"
PYTHON = "3.11.7"  # the oldest that every package takes is 3.11.5
PINNED = re.compile(
    r"^([a-z0-9][^=\s]*)==([^\s;]+)(?: ; (.*?))?((?: \\\n    --hash=sha256:\w+)*)$", re.M
)


def packages(name):
    """Name, version, platforms and hashes of a lock's packages."""
    for found in PINNED.findall((ROOT / name).read_text()):
        yield (*found[:3], re.findall("[0-9a-f]{64}", found[3]))


@contextmanager
def both_or_none():
    """Locks not made to their end stay as they were, and the same content keeps its time."""
    before = {name: (ROOT / name).read_bytes() for name in LOCKS}
    times = {name: (ROOT / name).stat().st_mtime_ns for name in LOCKS}
    try:
        yield
    except BaseException:
        for name, content in before.items():
            (ROOT / name).write_bytes(content)
        raise
    finally:
        for name, content in before.items():
            if (ROOT / name).read_bytes() == content:  # else make would build the environment anew
                os.utime(ROOT / name, ns=(times[name], times[name]))


@both_or_none()
def lock(*options):
    """Look every package's files up anew; versions stay unless ``--upgrade`` is given."""
    own = [(name, version, hashes) for name, version, _, hashes in packages(LOCKS[0])]
    for wheel in Path(os.environ.get("UV_FIND_LINKS") or "none").glob("*.whl"):
        name, version = wheel.name.lower().split("-")[:2]
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        own.append((name.replace("_", "-"), version.partition("+")[0], [digest]))
    for name in LOCKS:
        asked = ["allensdk==2.16.2", "tqdm"] if "acquire" in name else ["uv"]
        sources = ["-"] if "acquire" in name else ["pyproject.toml", "-", "--extra", "book"]
        command = [UV, "pip", "compile", "--quiet", "--universal", "--generate-hashes"]
        command += ["--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
        command += ["--python-version", PYTHON, "-o", name, *sources, *options]
        # With a folder of own builds none of the others would be listed.
        given = {key: value for key, value in os.environ.items() if key != "UV_FIND_LINKS"}
        subprocess.run(command, cwd=ROOT, env=given, input="\n".join(asked), text=True, check=True)
    path = ROOT / LOCKS[0]
    for name, version, hashes in own:  # such as PyTorch's for processors alone, of the same version
        text, pinned = path.read_text(), f"\n{name}=={version} \\\n"
        new = "".join(f"    --hash=sha256:{h} \\\n" for h in hashes if h not in text)
        path.write_text(text.replace(pinned, pinned + new))


def sbom():
    """CycloneDX 1.5 of both environments, to _build/sbom.json; the same bytes for the same lock."""
    parts = {}
    for environment in LOCKS:
        for name, version, platforms, hashes in packages(environment):
            purl = f"pkg:pypi/{name}@{version}"
            said = parts.setdefault(purl, {"type": "library", "bom-ref": purl, "purl": purl})
            said |= {"name": name, "version": version}
            said["hashes"] = [{"alg": "SHA-256", "content": digest} for digest in sorted(hashes)]
            used = {"name": f"brainvae:{environment}", "value": platforms or "every platform"}
            said.setdefault("properties", []).append(used)
    components = [parts[purl] for purl in sorted(parts)]
    content = json.dumps(components)
    about = {"type": "application", "name": "brainvae", "bom-ref": "brainvae"}
    serial = uuid.uuid5(uuid.NAMESPACE_OID, content).urn
    bom = {"bomFormat": "CycloneDX", "specVersion": "1.5", "serialNumber": serial, "version": 1}
    bom |= {"metadata": {"component": about}, "components": components}
    path = ROOT / "_build/sbom.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(bom, indent=1) + "\n")
    print(f"{path.relative_to(ROOT)}: {len(components)} packages")


def audit():
    """Known vulnerabilities of both locks by pip-audit: 1 where there are, 3 where nobody knows."""
    found, silent, skipped, n_audited = [], [], [], 0
    for name in LOCKS:
        command = [UV, "tool", "run", "--quiet", AUDITOR, "--disable-pip", "--no-deps"]
        command += ["--progress-spinner=off", "--format=json", "-r", name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        try:
            parts = json.loads(done.stdout)["dependencies"]
        except (ValueError, LookupError, TypeError):
            parts = []
        audited = [part for part in parts if "skip_reason" not in part]
        n_audited += len(audited)
        if not audited:
            silent.append(name)
            continue
        without = [part for part in parts if "skip_reason" in part]
        skipped += [f"{name}: {p['name']} is not audited: {p['skip_reason']}" for p in without]
        for part in audited:
            for known in part.get("vulns", ()):
                mended = ", ".join(known["fix_versions"]) or "no version"
                said = f"{part['name']} {part['version']}: {known['id']}, mended in {mended}"
                found.append(f"{name}: {said}")
    if n_audited:
        told = f"{n_audited} packages audited, {len(found)} known vulnerabilities"
        print(*skipped, *found, told, sep="\n")
    if silent:
        of = f"of {' and '.join(silent)} pip-audit says nothing"
        less = "not everything" if n_audited else "nothing"
        print(f"error: {less} was audited: {of}; is there a database of vulnerabilities to reach?")
    return 1 if found else 3 if silent or skipped else 0


@stoppable("stopped; the locks are as they were")
def main(command, *options):
    try:
        return {"lock": lock, "sbom": sbom, "audit": audit}[command](*options)
    except subprocess.CalledProcessError as error:  # uv has said why
        return f"error: uv ended with {error.returncode}; the locks are as they were"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
