"""What `scripts/lab vagrant-box` packs, without the minutes that installing Debian takes."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
BOX = ROOT / "scripts" / "vagrant" / "box.sh"


def shell(script: str, *, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-euc", f". {ROOT}/scripts/lib.sh; . {BOX}; {script}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_box_is_one_that_vagrant_libvirt_reads(tmp_path: Path) -> None:
    for name in ("key", "box.img"):
        (tmp_path / name).write_text(name)
    listed = shell("box_pack; mkdir unpacked; tar xvf lab.box -C unpacked", folder=tmp_path)
    assert set(listed.split()) == {"metadata.json", "Vagrantfile", "key", "box.img"}
    metadata = json.loads((tmp_path / "unpacked" / "metadata.json").read_text())
    said = (tmp_path / "unpacked" / "Vagrantfile").read_text()
    assert (metadata["provider"], metadata["format"]) == ("libvirt", "qcow2")
    (megabytes,) = re.findall(r"megabytes=(\d+)", BOX.read_text())
    assert metadata["virtual_size"] * 1024 >= int(megabytes)
    assert 'File.expand_path("key", __dir__)' in said


def test_another_dependency_is_another_box(tmp_path: Path) -> None:
    wanted = shell("python=python3 box_wanted", folder=tmp_path).splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert wanted == [*project["project"]["dependencies"], *project["build-system"]["requires"], "editables"]
    recipe = shell("python=python3 box_recipe", folder=tmp_path)
    assert re.fullmatch("[0-9a-f]{12}\n", recipe)
    other = "box_wanted() { echo x; }; box_recipe"
    assert shell(other, folder=tmp_path) != recipe
