"""The end of New: start the run of a plan, as `ftrun train --detach` does, and save the file."""

from __future__ import annotations

from pathlib import Path

from textual import on, work
from textual.widgets import Button

from ftlab import atomic, launch, registry
from ftlab.errors import FtlabError, Problem
from ftlab.plan import Plan
from ftlab.run import Run
from ftlab_tui.new import hubtoken
from ftlab_tui.new.draft import Draft
from ftlab_tui.new.planning import Planner, key_of
from ftlab_tui.widgets.modescreen import ModeScreen


def start(plan: Plan, runs_dir: Path, text: str) -> Run:
    """Make the run directory with this config text and start its trainer, which outlives us.

    Raises:
        FtlabError: the place is not available, the directory cannot be made, the start failed.
    """
    launch.check(plan.config.launch.where)
    registry.check(runs_dir, None)
    run = Run.create(plan, runs_dir, None, config_text=text)
    launch.start(run)
    return run


class Starting(ModeScreen):
    """What the screen New does with a draft that is ready."""

    draft: Draft
    planner: Planner
    launching: bool
    draft_fault: str  # why the draft could not be written last time

    def refresh_draft(self) -> None:
        """Judge and plan the draft again; given by the screen."""
        raise NotImplementedError

    def action_token(self) -> object:
        """Ask for a token of the hub; given by the screen."""
        raise NotImplementedError

    def _show(self, problems: dict[str, Problem]) -> None:
        raise NotImplementedError

    @on(Button.Pressed, "#launch")
    def press_launch(self) -> None:
        """The button."""
        self.action_launch()

    def action_launch(self) -> None:
        """Start now, or as soon as the plan is ready."""
        config, problems = self.draft.read()
        if self.planner.plan is not None and not self.planner.stale(self.draft):
            self.launching = False
            self.launch()
        elif problems or self.planner.failed == key_of(self.draft):
            self.launching = False
            self._show({**self.planner.problems, **problems})
            if not problems and hubtoken.may_help(self.planner.gated):
                self.action_token()
            else:
                self.notify("the problems above come first", severity="warning")
        elif config is not None:
            self.launching = True
            self.refresh_draft()

    @work(exclusive=True, group="launch", thread=True, exit_on_error=False)
    def launch(self) -> None:
        """Make the run and start its trainer, then watch it."""
        plan = self.planner.plan
        if plan is None:
            return
        try:
            run = start(plan, self.lab.runs_dir, self.draft.yaml())
        except FtlabError as error:
            self.app.call_from_thread(self.notify, str(error), severity="error", markup=False)
            return
        self.app.call_from_thread(self.ftui.open_run, run)

    def action_save(self) -> None:
        """Write the file here, under a name that is free."""
        taken = {path.name for path in Path().glob("run*.yaml")}
        names = ("run.yaml", *(f"run-{number}.yaml" for number in range(2, 1000)))
        path = Path(next(name for name in names if name not in taken))
        fault = self._write(path)
        if fault:
            self.notify(fault, severity="error", markup=False)
        else:
            self.notify(f"saved {path}; `ftrun train {path}` runs it", markup=False)

    def keep_draft(self) -> Path | None:
        """Write the draft into the state folder; None where it cannot be, which is told once."""
        path = self.lab.state / "draft.yaml"
        fault = self._write(path)
        if fault and fault != self.draft_fault:
            self.notify(f"the draft is kept in memory alone: {fault}", severity="warning",
                        markup=False, timeout=10)  # fmt: skip
        self.draft_fault = fault
        return None if fault else path

    def _write(self, path: Path) -> str:
        """Write the draft; what is wrong, "" when nothing is."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_text(path, self.draft.yaml(), durable=False)
        except OSError as error:
            return str(atomic.storage_error(error, path))
        except FtlabError as error:
            return str(error)
        return ""
