"""One file per provider, each with `build(name, section, deps)`; what they share lies beside them."""
