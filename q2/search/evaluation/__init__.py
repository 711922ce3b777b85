"""How a recipe is evaluated: costs from the bank, full precision's reference, the evaluator."""
