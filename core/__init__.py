"""The toolkit's programs and the rooms behind them; see docs/architecture.md."""
