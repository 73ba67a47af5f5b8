"""Parameters on devices: where they come from, which train, how they are laid out and kept."""
