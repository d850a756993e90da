"""The visualisation specialist's tools: charts of a table or of given rows, shown as Vega-Lite or saved.

A chart's rows come from a table file, grouped where that is asked, or from the model itself. Saving makes
a new file in the data folder, after a confirmation. Who uses them is not known here.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from llama_index.core.tools import FunctionTool
from pydantic import BaseModel, ConfigDict, Field

from llama_index.packs.mixture_of_agents.agents.tools.analysis import grouped
from llama_index.packs.mixture_of_agents.agents.tools.charts import (
    MOST_ROWS,
    Chart,
    Kind,
    drawable,
    vega_lite,
)
from llama_index.packs.mixture_of_agents.agents.tools.consent import Confirm, require_consent
from llama_index.packs.mixture_of_agents.agents.tools.folder import DataFolder
from llama_index.packs.mixture_of_agents.agents.tools.frames import ENDINGS, columns_known, read_table
from llama_index.packs.mixture_of_agents.agents.tools.measures import Condition, Measure, met
from llama_index.packs.mixture_of_agents.agents.tools.picture import png
from llama_index.packs.mixture_of_agents.agents.tools.typed import typed_tool
from llama_index.packs.mixture_of_agents.calls.threads import in_thread
from llama_index.packs.mixture_of_agents.errors import ToolError

_SAVED = (".json", ".png")


class Wanted(BaseModel):
    """A chart as a model asks for it: its rows come from `file`, or are given as `rows`."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    x: str = Field(description="Column along the horizontal axis")
    y: str = Field(default="", description="Column of numbers up; leave it out with `measure`")
    colour: str | None = Field(default=None, description="Column that tells series apart")
    title: str = ""
    file: str | None = Field(default=None, description="Name of a table file in the data folder")
    rows: list[dict[str, Any]] | None = Field(default=None, description="The rows, instead of `file`")
    measure: Measure | None = Field(
        default=None, description="Group the file by x and colour, and draw this measure"
    )
    where: list[Condition] = Field(default=[], description="Conditions that rows of the file must meet")


SaveAs = Annotated[str, Field(description="Name of the new file: .png for a picture, .json for Vega-Lite")]


class ChartTools:
    """Charts, as tools.

    Args:
        folder: Where table files are, and where charts may be saved.
        confirm: Who is asked before a file is written; None for nobody, so that nothing is.
        out: Where charts may be saved instead.
    """

    def __init__(
        self, folder: DataFolder, *, confirm: Confirm | None = None, out: DataFolder | None = None
    ) -> None:
        self._folder, self._out = folder, out or folder
        self._confirm = confirm

    def tools(self) -> list[FunctionTool]:
        """The tools; `save_chart` writes, after a confirmation."""
        return [typed_tool(method) for method in (self.list_files, self.make_chart, self.save_chart)]

    def list_files(self) -> str:
        """List the table files a chart can be made of."""
        return "\n".join(self._folder.files(ENDINGS)) or "there are none"

    def make_chart(self, chart: Wanted) -> str:
        """Make a chart and give it as Vega-Lite JSON, with its data inside."""
        return json.dumps(vega_lite(self._drawn(chart)), ensure_ascii=False)

    async def save_chart(self, chart: Wanted, save_as: SaveAs) -> str:
        """Make a chart and save it as a new file. A person is asked before it is written."""
        self._out.room_for(save_as, _SAVED)
        content = await in_thread(lambda: _encoded(self._drawn(chart), save_as))
        place = f"{save_as!r} in {self._out.path.name!r}"
        await require_consent(self._confirm, f"saving a {chart.kind} chart as {place}")
        return f"saved {self._out.write(save_as, content, _SAVED)} ({len(content)} bytes)"

    def _drawn(self, wanted: Wanted) -> Chart:
        if (wanted.file is None) == (wanted.rows is None):
            raise ToolError("give either `file` or `rows`")
        if wanted.rows is not None and (wanted.measure or wanted.where):
            raise ToolError("`measure` and `where` are for a `file`; `rows` are drawn as they are")
        y = wanted.measure.name if wanted.measure else wanted.y
        rows = self._rows(wanted.file, wanted, y) if wanted.file is not None else wanted.rows
        chart = Chart(
            kind=wanted.kind,
            x=wanted.x,
            y=y,
            colour=wanted.colour,
            title=wanted.title[:200],
            rows=rows or [],
        )
        return drawable(chart)

    def _rows(self, file: str, wanted: Wanted, y: str) -> list[dict[str, Any]]:
        frame = met(read_table(self._folder, file), wanted.where)
        if wanted.measure:
            by = list(dict.fromkeys([wanted.x, *([wanted.colour] if wanted.colour else [])]))
            frame = grouped(frame, by, [wanted.measure])
        columns_known(frame, wanted.x, y, wanted.colour)
        if frame.height > MOST_ROWS:
            raise ToolError(f"{frame.height} rows are too many for a chart; use `measure` or `where`")
        return frame.to_dicts()


def _encoded(chart: Chart, name: str) -> bytes:
    if name.lower().endswith(".png"):
        return png(chart)
    return json.dumps(vega_lite(chart), ensure_ascii=False, indent=1).encode("utf-8")
