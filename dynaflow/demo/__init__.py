"""What ``dynaflow demo`` plays: a small shop, and the examples."""
