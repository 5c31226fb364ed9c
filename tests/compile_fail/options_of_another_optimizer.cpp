// error: could not convert|no designated|has no non-static data member|does not refer to any field
#include "aurora/step.hpp"

// The options of a rule are its own: Muon has no pp_beta.
#ifdef MISUSE
using Options = aurora::MuonOptions;
#else
using Options = aurora::AuroraOptions;
#endif

Options options() { return {.lr = 0.1, .pp_beta = 0.25}; }
