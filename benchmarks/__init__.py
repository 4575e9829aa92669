"""What things cost on the machine at hand: `make bench`. Results with date and machine go to docs/performance.md."""
