"""What check-k8s and check-image share: the manifests as kustomize builds them, and the packages that read them."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Where cargo builds.
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PACKAGES = ["kubernetes-validate==1.37.0", "PyYAML==6.0.3"]


def with_packages(script):
    """Runs the script again in an environment that has the packages."""
    home = TARGET / "manifests"
    python = home / "bin" / "python"
    if Path(sys.prefix) != home:
        if not python.exists():
            venv.create(home, with_pip=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
        subprocess.run(pip, check=True)
        sys.exit(subprocess.run([python, script, *sys.argv[1:]]).returncode)


def built(folder):
    """The documents of a kustomization."""
    import yaml

    if shutil.which("kubectl"):
        command = ["kubectl", "kustomize", folder]
    elif shutil.which("kustomize"):
        command = ["kustomize", "build", folder]
    else:
        sys.exit("neither kubectl nor kustomize is here; install one of them")
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if output.returncode or output.stderr.strip():
        sys.exit(f"{' '.join(command)}:\n{output.stderr}")
    return [document for document in yaml.safe_load_all(output.stdout) if document]


def named(document):
    return f"{document['kind']}/{document['metadata']['name']}"


def of_kind(documents, kind):
    return [document for document in documents if document["kind"] == kind]
