// Written by build_shaders.py from shaders/keep_rows.comp; do not edit. Compile without fast math.
#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

struct Step
{
    uint step_[1];
};

struct Push
{
    uint cols;
    uint stride;
};

struct Cache
{
    float cache[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _94 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_94, 1u, 1u);

kernel void keep_rows(constant Push& p [[buffer(0)]], device Cache& _71 [[buffer(3)]], const device Step& _22 [[buffer(5)]], uint3 gl_GlobalInvocationID [[thread_position_in_grid]])
{
    do
    {
        uint _34 = _22.step_[1] - _22.step_[3];
        if (gl_GlobalInvocationID.x >= p.cols)
        {
            break;
        }
        for (uint _105 = 0u; _105 < _22.step_[3]; _105++)
        {
            uint _59 = 208u + _105;
            if (_22.step_[_59] != _105)
            {
                _71.cache[((_34 + _105) * p.stride) + gl_GlobalInvocationID.x] = _71.cache[((_34 + _22.step_[_59]) * p.stride) + gl_GlobalInvocationID.x];
            }
        }
        break;
    } while(false);
}

