"""Heat maps as files: readable images, the same each time, and matplotlib left as it was."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest

from llama_index.packs.mixture_of_agents.app import heat_image
from llama_index.packs.mixture_of_agents.app.heat_image import check_image, image_bytes, write_image
from llama_index.packs.mixture_of_agents.app.heat_map import HeatMap
from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MissingExtraError
from tests.app.sample_maps import layer_map, token_map

needs_matplotlib = pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs the plots extra")
MAPS = [layer_map(3, 4), layer_map(1, 1), layer_map(70, 300), layer_map(2, 64, measures=False), token_map()]


@needs_matplotlib
@pytest.mark.parametrize("heat", MAPS, ids=lambda heat: f"{len(heat.rows)}x{heat.experts}")
def test_a_png_of_sensible_size(heat: HeatMap) -> None:
    content = image_bytes(heat, "png")
    assert content.startswith(b"\x89PNG\r\n")
    width, height = (int.from_bytes(content[start : start + 4], "big") for start in (16, 20))
    assert 800 < width < 3500
    assert 500 < height < 3500


@needs_matplotlib
def test_an_svg_is_well_formed_and_the_same_each_time() -> None:
    first = image_bytes(layer_map(3, 4), "svg")
    assert ElementTree.fromstring(first).tag.endswith("svg")
    assert b"<dc:date>" not in first
    assert image_bytes(layer_map(3, 4), "svg") == first
    assert image_bytes(token_map(), "svg") != first


@needs_matplotlib
def test_the_colours_follow_the_shares() -> None:
    """Pixels in the middles of the cells: a larger share is a brighter one."""
    import matplotlib.image

    heat = layer_map(4, 4, measures=False)
    figure = heat_image._figure(heat)
    axis = figure.axes[0]
    (picture,) = axis.get_images()
    shown = picture.get_array()
    assert shown is not None
    assert shown.tolist() == [list(row) for row in heat.shares]
    assert picture.get_clim() == (0, heat.top)
    assert isinstance(picture, matplotlib.image.AxesImage)


@needs_matplotlib
def test_a_program_that_plots_for_itself_notices_nothing() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    image_bytes(token_map(), "png")
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


@needs_matplotlib
def test_a_file_is_written_over(tmp_path: Path) -> None:
    file = tmp_path / "map.PNG"
    file.write_text("old", encoding="utf-8")
    check_image(file)
    write_image(layer_map(2, 4), file)
    assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["map.pdf", "map", "map.png.txt"])
def test_other_kinds_of_file_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"must end in \.png or \.svg"):
        check_image(tmp_path / name)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="which does not exist"):
        check_image(tmp_path / "nowhere" / "map.png")
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(ConfigurationError, match="it is a folder"):
        check_image(tmp_path / "folder.svg")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write anywhere, so the system's answer is made up.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(ConfigurationError, match="permission denied"):
        check_image(tmp_path / "map.png")


@needs_matplotlib
def test_a_disk_that_fails_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_image(layer_map(2, 4), tmp_path / "gone" / "map.png")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heat_image, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"mixture-of-agents\[plots\]"):
        check_image(tmp_path / "map.png")
