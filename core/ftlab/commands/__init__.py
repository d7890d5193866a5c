"""The commands of ftrun, one module each; `ftlab.cli` loads only the one that is asked for."""
