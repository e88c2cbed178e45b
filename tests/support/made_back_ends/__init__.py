"""Back ends for tests, one module each, as a package outside of Sonant would define them."""
