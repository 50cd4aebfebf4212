"""The commands of ``medr1kit``, a module for each part of the work; a function a command."""
