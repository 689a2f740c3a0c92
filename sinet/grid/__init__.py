"""From configuration to plan: what can be declared (`schema`), what it means (`config`), which runs it asks for
(`plan`)."""
