"""The gateway, its engines and its page. Needs the base install only; never torch."""
