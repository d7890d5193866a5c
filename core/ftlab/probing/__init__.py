"""The probe's child side: facts about this machine, a model and a data set."""
