"""What the contenders serve: the counter of `examples/counter` on each platform, and bare greetings as ceilings."""
