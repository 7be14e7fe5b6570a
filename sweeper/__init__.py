"""Permanent deletion of stored LLM responses, when their time has come, with proof."""
