package sim

// Cuts is what is compared with a real kernel.
var Cuts = cuts
