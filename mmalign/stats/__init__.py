"""Statistics: agreement with people, rankings, intervals, and the tables that reports share. Needs no torch."""
