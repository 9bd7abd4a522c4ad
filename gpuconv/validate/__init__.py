"""The judges: what is right (`reference`), and how far a result may be from it (`tolerance`)."""
