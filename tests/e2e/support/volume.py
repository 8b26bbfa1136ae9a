"""A volume of a ConfigMap, swapped as the kubelet swaps it."""

import shutil
from pathlib import Path

PRESENT = "..data"


class Volume:
    """A folder whose files are links through `..data`, which leads to the present generation."""

    def __init__(self, folder: Path, files: dict[str, str]) -> None:
        self.folder = folder
        self.generation = 0
        folder.mkdir()
        self.swap(files)
        for name in files:
            (folder / name).symlink_to(f"{PRESENT}/{name}")

    def swap(self, files: dict[str, str]) -> None:
        """Puts a new generation in the place of the present one, which goes at once."""
        last, self.generation = self.folder / f"..{self.generation}", self.generation + 1
        present = self.folder / f"..{self.generation}"
        present.mkdir()
        for name, text in files.items():
            (present / name).write_text(text)
        link = self.folder / "..data_tmp"
        link.symlink_to(present.name)
        link.rename(self.folder / PRESENT)
        if last.exists():
            shutil.rmtree(last)
