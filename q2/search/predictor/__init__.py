"""The predictor: a GNN that ranks recipes, scores every unit's variants, and explains them.

Compare Qua²SeDiMo (AAAI'25) and AutoBuild (CVPR'24); docs/predictor.md says what is done otherwise. Import what you
need from its modules: `space`, `dataset`, `train`, `label`, `plots`.
"""
