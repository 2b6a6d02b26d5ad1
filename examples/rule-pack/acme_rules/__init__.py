"""Rules for models that run on the Acme accelerator."""
