"""Building recipes within budgets, exactly: knapsack, dominance, variants of units."""
