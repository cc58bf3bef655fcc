"""A person as the reward: what is asked, what was answered, and what is learnt from it."""
