"""Image paths: one spelling each, and found only inside the folder that was given.

A question file and a disk seldom agree to the letter. A Mac's archive decomposes accents, Windows writes backslashes, a
cluster links its shared copy, two tables write ``a.png`` and ``./a.png``. What can be settled is settled here, once;
what cannot ends in a sentence with the name that was probably meant. And a file of questions is someone else's text: it
must not lead out of the image folder.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from functools import lru_cache
from pathlib import Path, PureWindowsPath

from medr1kit.alike import alike
from medr1kit.vqa import DataError


def image_path(text: str) -> str:
    """Return the one spelling of an image path, which is the image's id: two spellings of a file are one image.

    Blanks around it, ``./``, doubled slashes and Windows' backslashes go, and accents are composed (Unicode NFC).
    Nothing is refused here, for questions load without images too; :func:`find_image` refuses.

    >>> image_path(".\\\\img\\\\a.png"), image_path("img//./a.png "), image_path("img/../a.png")
    ('img/a.png', 'img/a.png', 'img/../a.png')
    """
    text = unicodedata.normalize("NFC", text.strip())
    if "://" in text:
        return text
    text = text.replace("\\", "/")
    return "/" * text.startswith("/") + "/".join(part for part in text.split("/") if part not in ("", "."))


def find_image(folder: str | os.PathLike, relative: str) -> Path:
    """Return the file an image path of a data set means, if it is a file of the image folder.

    A path need not be spelled as on disk where :func:`image_path` makes both one. A folder link directly in the image
    folder (``Images``, to a cluster's shared copy) is followed, because it is a part of the folder that was given.
    Every other link counts by where it leads: it may not lead out.

    Args:
        folder: the folder that the paths in the data set start from.
        relative: the path as the data set has it, for example ``"Images/ISIC2019/ISIC_0000001.jpg"``.

    Raises:
        DataError: if the path is empty, absolute, a URL, climbs out with ``..`` or through a link, names a directory,
            or there is no such file; then with the file that was probably meant.
    """
    shown, path = _shown(relative), image_path(relative)
    if not path or "\0" in path:
        raise DataError(f"unusable image path: {shown}; give a path below the image folder")
    if "://" in path or path.startswith("data:"):
        raise DataError(f"image path is a URL: {shown}; download the file and give a path below the image folder")
    if path.startswith(("/", "~/")) or PureWindowsPath(path).drive:
        raise DataError(f"image path is absolute: {shown}; give a path below the image folder")
    if ".." in (parts := path.split("/")):
        raise DataError(f"image path leaves the image folder: {shown}; remove the '..'")
    try:
        found = Path(folder, path)
        if not _is_there(found):
            found = _spelled_otherwise(Path(folder), parts, shown)
        mode = found.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"image missing: {shown} is a link to a file that is not there; fetch the file") from error
    except OSError as error:  # a name that is too long, a circle of links, a folder we may not read
        raise DataError(f"image cannot be reached: {shown} ({error.strerror}); check path and rights") from error
    if not _belongs(found, Path(folder)):
        raise DataError(
            f"image path leaves the image folder: {shown} is a link to outside; copy the file, or "
            "pass images= the real folder that holds it"
        )
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "no regular file"
        raise DataError(f"image is {kind}: {shown}; the path must name a file")
    return found


def _is_there(path: Path) -> bool:
    """`os.path.lexists`, but a name that is too long and a folder that is closed are errors and no absence."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _shown(text: str) -> str:
    return repr(text if len(text) <= 200 else f"{text[:200]}…")


def _belongs(path: Path, folder: Path) -> bool:
    """Whether a file lies in the folder, or in a folder that is linked directly into it."""
    real, (first, *deeper) = os.path.realpath(path), path.relative_to(folder).parts
    roots = [folder, folder / first] if deeper else [folder]
    return any(Path(real).is_relative_to(os.path.realpath(root)) for root in roots)


def _spelled_otherwise(folder: Path, parts: list[str], shown: str) -> Path:
    """Return the file whose name on disk is another spelling: decomposed accents, backslashes in a name.

    Raises:
        DataError: if there is none.
    """
    place = folder
    for i, part in enumerate(parts):
        names = _names(place)
        if (rest := "/".join(parts[i:])) in names:  # an archive of Windows, unpacked here: "img\\a.png" is one name
            return place / names[rest]
        if os.path.lexists(place / part):
            place /= part
        elif part in names:
            place /= names[part]
        else:
            break
    hint = _near(part, names) or _several(folder, parts) or _deeper(folder, parts) or _folder_hint(folder, parts[0])
    raise DataError(f"image missing: {shown} is not in {os.fspath(folder)!r}; {hint}")


def _names(place: Path) -> dict[str, str]:
    """The names in a folder, by their one spelling; none where it cannot be read."""
    try:
        return _listed(os.fspath(place), os.stat(place).st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=64)
def _listed(place: str, changed: int) -> dict[str, str]:
    return {image_path(name): name for name in sorted(os.listdir(place))}


def _near(part: str, names: dict[str, str]) -> str | None:
    """A hint at the name that was probably meant: in another case, or with an ending."""
    for name, real in names.items():
        if name.casefold() == part.casefold():
            return f"there is {real!r}: upper and lower case count, correct the path"
    for name, real in names.items():
        if alike(name).casefold() == alike(part).casefold():
            return f"there is {real!r}: a character that looks the same is another one, correct the path"
    real = next((real for name, real in names.items() if os.path.splitext(name)[0].casefold() == part.casefold()), None)
    return real and f"there is {real!r}: write the path with its ending"


def _several(folder: Path, parts: list[str]) -> str | None:
    first, *more = [one.strip() for one in re.split("[;,|]", "/".join(parts))]
    return "it names several images, and questions are about one each: choose one, or join them" * bool(
        more and os.path.lexists(folder / first)
    )


def _deeper(folder: Path, parts: list[str]) -> str | None:
    """A hint at a folder within the image folder, below which the file is."""
    inner = next((real for real in _names(folder).values() if os.path.lexists(folder / real / Path(*parts))), None)
    return inner and f"it is in its folder {inner!r}: pass images={os.fspath(folder / inner)!r}, or begin the paths so"


def _folder_hint(folder: Path, first: str) -> str:
    if folder.resolve().name == first:
        return f"the paths begin with '{first}/' themselves: pass the parent, images={os.fspath(folder.parent)!r}"
    return "images= must be the folder that the paths start from, or pass check='drop' to leave such rows out"
