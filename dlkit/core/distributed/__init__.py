"""Training by several processes: who is there, what they tell each other, and what goes wrong between them."""
