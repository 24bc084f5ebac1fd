"""Mechanisms that several providers need, or that are not about any one provider: each module stands alone and knows no provider's names."""
