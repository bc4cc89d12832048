// The header in C++: it compiles without a warning, and its functions have the names of C.
#include <datapipe.h>

int main()
{
    dp_verify_options options = {};
    options.size = sizeof options;
    dp_cancel *token = nullptr;
    bool right = dp_version_check(DP_VERSION) == DP_OK && dp_verify(&options, nullptr) == DP_ERR_NULL;
    right = right && dp_cancel_new(&token) == DP_OK && dp_cancel_free(token) == DP_OK;
    return right ? 0 : 1;
}
