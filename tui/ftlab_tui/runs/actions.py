"""What can be done with runs: resume, clone, delete, notes, export, reproduce, compare.

Everything goes through `ftlab` or a command of `ftrun`; whatever takes long or touches files runs
beside the screen, and everything that takes something away asks first.
"""

from __future__ import annotations

import asyncio

from textual import work

from ftlab import notes, trash
from ftlab.errors import FtlabError
from ftlab.run import LIVE, Run
from ftlab_tui.names import short
from ftlab_tui.runs import commands, resuming
from ftlab_tui.runs.exporting import ExportDialog
from ftlab_tui.runs.notesdialog import NotesDialog
from ftlab_tui.runs.rows import bytes_text
from ftlab_tui.widgets.confirm import Confirm
from ftlab_tui.widgets.modescreen import ModeScreen


class RunActions(ModeScreen):
    """The actions; the screen that derives from it says which run is meant."""

    last_deleted: trash.Discarded | None = None

    def chosen(self) -> Run | None:
        """The run under the cursor."""
        raise NotImplementedError

    def marked(self) -> list[Run]:
        """The marked runs, or the one under the cursor."""
        raise NotImplementedError

    def reload(self) -> None:
        """Read the folder anew."""
        raise NotImplementedError

    def tell(self, text: str, severity: str = "information") -> None:
        """A message, never taken for markup."""
        self.notify(text, severity=severity, markup=False, timeout=8)  # type: ignore[arg-type]

    def action_watch(self) -> None:
        """Watch it in Monitor."""
        if run := self.chosen():
            self.ftui.open_run(run)

    @work(exclusive=True, group="act")
    async def action_resume(self) -> None:
        """Go on with a run: says what is restored, or why it cannot be."""
        run = self.chosen()
        if run is None:
            return
        found = await asyncio.to_thread(resuming.consider, run)
        if not found.possible:
            self.tell(f"{run.id} cannot be resumed: {found.detail}", "warning")
            return
        question = Confirm(f"Resume run {run.id}?", found.detail, yes="Resume")
        if not await self.app.push_screen_wait(question):
            return
        fault = await asyncio.to_thread(resuming.start, run)
        if fault:
            self.tell(fault, "error")
        else:
            self.ftui.open_run(run)

    def action_clone(self) -> None:
        """Put its config into New."""
        run = self.chosen()
        if run is None:
            return
        try:
            text = run.config_path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self.tell(f"{run.config_path} cannot be read: {error}", "error")
            return
        self.ftui.clone(text, run.id)

    @work(exclusive=True, group="act")
    async def action_delete(self) -> None:
        """Move the marked runs into the trash, after naming them and their bytes."""
        runs = self.marked()
        live = [run for run in runs if run.liveness() in LIVE]
        if live:
            self.tell(f"{live[0].id} is running: stop it first (3, then s)", "warning")
            return
        if not runs:
            return
        sizes = await asyncio.to_thread(lambda: [trash.size(run.path) for run in runs])
        listed = [f"{short(r.path)}  {bytes_text(s)}" for r, s in zip(runs, sizes, strict=True)]
        more = [f"and {len(listed) - 8} more"] if len(listed) > 8 else []
        what = f"run {runs[0].id}" if len(runs) == 1 else f"{len(runs)} runs"
        detail = "\n".join([
            *listed[:8], *more,
            f"{bytes_text(sum(sizes))} go to {short(runs[0].path.parent / trash.FOLDER)}; "
            f"u brings them back, X empties it for good.",
        ])  # fmt: skip
        if not await self.app.push_screen_wait(Confirm(f"Delete {what}?", detail, yes="Delete")):
            return
        for run in runs:
            try:
                self.last_deleted = await asyncio.to_thread(trash.discard, run)
                self.tell(f"{run.id} is in the trash; u brings it back")
            except FtlabError as error:
                self.tell(str(error), "error")
        self.reload()

    @work(exclusive=True, group="act")
    async def action_undo(self) -> None:
        """Bring the run back that was deleted last."""
        found = await asyncio.to_thread(trash.contents, self.lab.runs_dir)
        item = self.last_deleted if self.last_deleted in found else None
        item = item or (found[-1] if found else None)
        if item is None:
            self.tell("the trash is empty")
            return
        try:
            run = await asyncio.to_thread(trash.restore, item)
            self.tell(f"{run.id} is back")
        except FtlabError as error:
            self.tell(str(error), "error")
        self.reload()

    @work(exclusive=True, group="act")
    async def action_empty(self) -> None:
        """Remove what is in the trash for good."""
        root = self.lab.runs_dir
        found = await asyncio.to_thread(trash.contents, root)
        if not found:
            self.tell("the trash is empty")
            return
        sizes = await asyncio.to_thread(lambda: [trash.size(item.path) for item in found])
        names = ", ".join(item.id for item in found[:6]) + (" …" if len(found) > 6 else "")
        detail = f"{names}\n{bytes_text(sum(sizes))} are freed. This cannot be undone."
        question = f"Remove {len(found)} runs in {short(root / trash.FOLDER)} for good?"
        if await self.app.push_screen_wait(Confirm(question, detail, yes="Remove")):
            try:
                freed = await asyncio.to_thread(trash.empty, root)
                self.tell(f"{bytes_text(freed)} freed")
            except FtlabError as error:
                self.tell(str(error), "error")

    @work(exclusive=True, group="act")
    async def action_notes(self) -> None:
        """Tags and note."""
        run = self.chosen()
        if run is None:
            return
        made = await self.app.push_screen_wait(NotesDialog(run.id, notes.read(run)))
        if made is not None:
            try:
                await asyncio.to_thread(notes.write, run, made)
            except FtlabError as error:
                self.tell(str(error), "error")
            self.reload()

    @work(group="command")
    async def action_export(self) -> None:
        """Export through `ftrun export`; its result is where the run keeps it."""
        run = self.chosen()
        if run is None:
            return
        if not commands.available("export"):
            adapter = run.export_dir / "adapter"
            have = f"; the adapter is at {adapter}" if adapter.is_dir() else ""
            self.tell(f"{commands.missing('export')}{have}", "warning")
            return
        arguments = await self.app.push_screen_wait(ExportDialog(run))
        if arguments is not None:
            await self.command(*arguments)

    @work(group="command")
    async def action_reproduce(self) -> None:
        """Run it again through `ftrun reproduce` and compare the bits."""
        run = self.chosen()
        if run is None:
            return
        if not commands.available("reproduce"):
            self.tell(commands.missing("reproduce"), "warning")
            return
        detail = (
            f"`ftrun reproduce {run.id}` trains it anew as a run of its own and compares the "
            f"bits. It takes as long as the run did; closing this app does not end it."
        )
        question = Confirm(f"Reproduce run {run.id}?", detail, yes="Reproduce")
        if await self.app.push_screen_wait(question):
            await self.command("reproduce", str(run.path))

    async def command(self, *arguments: str) -> str:
        """Start a command, wait for its end, tell its last words; they are returned."""
        child = await asyncio.to_thread(commands.start, arguments, self.lab.state)
        self.tell(f"{child.words}\noutput: {child.output}")
        while (code := child.ended()) is None:
            await asyncio.sleep(0.3)
        words = child.last_words()
        severity = "information" if code in (0, 4) else "error"
        self.tell(f"{child.words}: exit code {code}\n{words}", severity)
        self.reload()
        return words
