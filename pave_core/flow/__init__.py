"""The mathematics of one denoising step: schedules, solvers, stochastic kernels, paved transitions."""
