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
from pathlib import Path

ROOT = Path(__file__).parent.parent
UV = Path(sys.executable).with_name("uv")
LOCKS = ("constraints.txt", "constraints-acquire.txt")
PYTHON = "3.11.7"  # the oldest that every package takes is 3.11.5
PINNED = re.compile(
    r"^([a-z0-9][^=\s]*)==([^\s;]+)(?: ; (.*?))?((?: \\\n    --hash=sha256:\w+)*)$", re.M
)


def packages(name):
    """Name, version, platforms and hashes of a lock's packages."""
    for found in PINNED.findall((ROOT / name).read_text()):
        yield (*found[:3], re.findall("[0-9a-f]{64}", found[3]))


def lock(*options):
    """Look every package's files up anew; versions stay unless ``--upgrade`` is given."""
    before = {name: (ROOT / name).read_bytes() for name in LOCKS}
    times = {name: (ROOT / name).stat().st_mtime_ns for name in LOCKS}
    own = [(name, version, hashes) for name, version, _, hashes in packages(LOCKS[0])]
    for wheel in Path(os.environ.get("UV_FIND_LINKS") or "none").glob("*.whl"):
        name, version = wheel.name.lower().split("-")[:2]
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        own.append((name, version.partition("+")[0], [digest]))
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
    for name, content in before.items():
        if (ROOT / name).read_bytes() == content:  # else make would build the environment anew
            os.utime(ROOT / name, ns=(times[name], times[name]))


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
    found, n_audited = [], 0
    for name in LOCKS:
        command = [UV, "tool", "run", "--quiet", "pip-audit", "--disable-pip", "--no-deps"]
        command += ["--progress-spinner=off", "--format=json", "-r", name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        try:
            parts = json.loads(done.stdout)["dependencies"]
        except ValueError:
            parts = []
        n_audited += sum("skip_reason" not in part for part in parts)
        for part in parts:
            for known in part.get("vulns", ()):
                mended = ", ".join(known["fix_versions"]) or "no version"
                said = f"{part['name']} {part['version']}: {known['id']}, mended in {mended}"
                found.append(f"{name}: {said}")
    if not n_audited:
        print("error: nothing was audited: pip-audit reaches no database of vulnerabilities here")
        return 3
    print(*found, f"{n_audited} packages audited, {len(found)} known vulnerabilities", sep="\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit({"lock": lock, "sbom": sbom, "audit": audit}[sys.argv[1]](*sys.argv[2:]))
