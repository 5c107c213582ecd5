"""The small shop that ``dynaflow demo`` runs."""
