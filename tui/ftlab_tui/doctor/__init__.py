"""Doctor: the findings of ftdoctor."""
