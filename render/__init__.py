"""Scenes to clips: specs, randomisation, Cycles and Mitsuba backends, the Ray farm."""
