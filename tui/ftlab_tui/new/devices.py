"""Which GPUs a run is given: one line of the review, where there is something to choose."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Label

from ftlab.configtext import flow
from ftlab.facts import Machine
from ftlab_tui.new.draft import Draft
from ftlab_tui.new.form import Field
from ftlab_tui.widgets.choice import Choice

PATH = "launch.devices"


class Devices(Horizontal):
    """A choice among this machine's GPUs, several of them, and the CPU."""

    DEFAULT_CSS = """
    Devices { height: 1; display: none; }
    Devices.-some { display: block; }
    Devices Label { width: 9; color: $text-muted; }
    """

    def compose(self) -> ComposeResult:
        """Name and choice."""
        yield Label("devices")
        yield Choice(["auto"], "auto", id="devices-choice")

    def on_mount(self) -> None:
        """Nothing is known of the machine yet."""
        self.values = {"auto": "auto"}

    def offer(self, machine: Machine | None, draft: Draft) -> None:
        """Offer what the machine has."""
        self.values = offers(machine)
        self.query_one(Choice).options = list(self.values)
        self.set_class(len(self.values) > 1, "-some")
        self.follow(draft)

    def follow(self, draft: Draft) -> None:
        """Show what the draft says; a list that is not among the offers is shown as it is."""
        choice, given = self.query_one(Choice), flow(draft.get(PATH))
        choice.value = next((name for name, v in self.values.items() if v == given), given)

    def on_choice_changed(self, event: Choice.Changed) -> None:
        """Chosen: told as if it were typed into the form."""
        event.stop()
        value = self.values.get(event.value, event.value)
        self.post_message(Field.Typed(PATH, "" if value == "auto" else value))


def offers(machine: Machine | None) -> dict[str, str]:
    """What may be chosen, in words -> as a config says it; only auto without a GPU."""
    gpus = machine.gpus if machine is not None else ()
    if not gpus:
        return {"auto": "auto"}
    kinds = [gpu.name for gpu in gpus]
    most = max(kinds.count(name) for name in kinds)  # those that train together are alike
    names = {f"GPU {gpu.index}": f"[{gpu.index}]" for gpu in gpus}
    several = {f"{count} GPUs": str(count) for count in range(2, most + 1)}
    return {"auto": "auto", **names, **several, "CPU": "[]"}
