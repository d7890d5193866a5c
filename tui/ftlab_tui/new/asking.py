"""What New asks others in the background: this machine, the doctor, the hub."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType
from textual.widgets import Static

from ftlab import launch
from ftlab.errors import FtlabError
from ftlab.facts import Machine
from ftlab.launch import docker_image
from ftlab_tui.doctor import report
from ftlab_tui.new import children, guess, hubtoken, sources, steps
from ftlab_tui.new.devices import Devices
from ftlab_tui.new.draft import Draft
from ftlab_tui.new.planning import Planner
from ftlab_tui.widgets.modescreen import ModeScreen


class Asking(ModeScreen):
    """Questions whose answers come later; none of them holds up a key."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+t", "token", "Token", show=False, tooltip="for what is gated or private"),
    ]
    machine: Machine | None
    models: list[sources.LocalModel]
    draft: Draft
    planner: Planner

    def action_again(self) -> None:
        """Read model and data again; given by the screen."""
        raise NotImplementedError

    @work(exclusive=True, group="token")
    async def action_token(self) -> None:
        """Ask for a token of the hub; what was refused for want of one is read again."""
        token = await self.app.push_screen_wait(hubtoken.TokenDialog(self.planner.gated))
        if token is None:
            return
        hubtoken.give(token)
        self.notify("the token is used until the app ends")
        self.action_again()

    @work(exclusive=True, group="machine", exit_on_error=False)
    async def look_at_machine(self) -> None:
        """Facts of this computer, for the fit marks."""
        try:
            self.machine = await children.machine(self.lab.runs_dir)
        except (FtlabError, OSError, ValueError):
            return
        self.query_one(steps.ModelStep).fill(
            self.models, self.machine, self.draft.get("model.name")
        )
        self.query_one(Devices).offer(self.machine, self.draft)

    @work(exclusive=True, group="doctor", exit_on_error=False)
    async def look_at_doctor(self) -> None:
        """What the doctor says, as one line of the review."""
        line = self.query_one("#review-doctor", Static)
        try:
            found = report.read(await report.ask())
        except FtlabError as error:
            line.update(Text(f"doctor: {error}", "dim"))
            return
        worst = [item for item in found if item.status in ("fail", "crash", "warn")][:3]
        text = Text(f"doctor: {report.summary(found)} (key 5 shows all)\n")
        for item in worst:
            text.append(f"{report.SIGNS[item.status]} {item.title}\n")
        text.rstrip()
        line.update(text)

    @work(exclusive=True, group="place", exit_on_error=False)
    async def look_at_place(self) -> None:
        """Whether a trainer can be started where the draft says, as a line of the review."""
        line, where = self.query_one("#review-place", Static), str(self.draft.get("launch.where"))
        if where == "local":
            line.update("")
            return
        line.update(f"{where}: asking whether it can be used ...")
        try:
            await asyncio.to_thread(launch.check, where)
        except FtlabError as error:
            line.update(Text(f"! {where}: {error}"))
            return
        image = docker_image.name_of(self.draft.get("launch.image"))
        line.update(Text(f"✓ {where}: the engine answers; image {image}"))

    @work(exclusive=True, group="search", exit_on_error=False)
    async def search_hub(self, words: str) -> None:
        """Ask the hub, in a child, for models that fit the words."""
        self.query_one("#model-note", Static).update("searching the hub ...")
        try:
            rows = await guess.search(words)
        except FtlabError as error:
            self.query_one("#model-note", Static).update(
                Text(f"{error}; names typed in full and the models below work offline")
            )
            return
        self.query_one(steps.ModelStep).found(rows)
        self.query_one("#model-note", Static).update(f"the hub knows {len(rows)}; they stand below")
        self.query_one("#model-list").focus()
