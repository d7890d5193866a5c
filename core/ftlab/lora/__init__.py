"""LoRA adapters: injected through PEFT, read by the engine, saved, loaded and merged."""
