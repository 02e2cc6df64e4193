// Written by build_shaders.py from shaders/bandwidth.comp; do not edit. Compile without fast math.
#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
#ifndef BLOCKFFN_TOKENS
#define BLOCKFFN_TOKENS 1u
#endif
constant uint TOKENS = BLOCKFFN_TOKENS;
constant bool _27 = (TOKENS != 1u);

struct Push
{
    uint n;
};

struct From
{
    uint4 from[1];
};

constant bool _83 = (TOKENS == 4u);

struct To
{
    uint4 to[1];
};

constant bool _116 = (TOKENS == 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _138 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_138, 1u, 1u);

kernel void bandwidth(constant Push& p [[buffer(0)]], const device From& _65 [[buffer(2)]], device To& _89 [[buffer(3)]], uint3 gl_NumWorkGroups [[threadgroups_per_grid]], uint3 gl_GlobalInvocationID [[thread_position_in_grid]])
{
    uint _19 = gl_NumWorkGroups.x * THREADS;
    uint4 _145;
    if (_27)
    {
        uint4 _146;
        _146 = uint4(0u);
        uint4 _110;
        for (uint _144 = gl_GlobalInvocationID.x; _144 < p.n; _146 = _110, _144 += (4u * _19))
        {
            uint _52 = _144 + _19;
            uint _56 = _52 + _19;
            uint _60 = _56 + _19;
            uint4 _69 = _65.from[_144];
            uint4 _73 = _65.from[_52];
            uint4 _77 = _65.from[_56];
            uint4 _81 = _65.from[_60];
            if (_83)
            {
                _89.to[_144] = _69;
                _89.to[_52] = _73;
                _89.to[_56] = _77;
                _89.to[_60] = _81;
            }
            _110 = _146 + ((_69 ^ _73) + (_77 ^ _81));
        }
        _145 = _146;
    }
    else
    {
        _145 = uint4(0u);
    }
    bool _133;
    if (_116)
    {
        _133 = (((_145.x + _145.y) + _145.z) + _145.w) == 123456789u;
    }
    else
    {
        _133 = _116;
    }
    if (_133)
    {
        _89.to[0] = _145;
    }
}

