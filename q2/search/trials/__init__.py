"""Trials, their store on disk, and how they are listed and exchanged."""
