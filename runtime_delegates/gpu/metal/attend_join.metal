// Written by build_shaders.py from shaders/attend_join.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

template<typename T>
[[clang::optnone]] T spvFSub(T l, T r)
{
    return fma(T(-1), r, l);
}

struct Step
{
    uint step_[1];
};

struct Push
{
    uint heads;
    uint value_dim;
    uint max_parts;
    uint y_stride;
    uint y_head;
};

struct Parts
{
    float parts[1];
};

struct Y
{
    float y[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _294 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_294, 1u, 1u);

kernel void attend_join(constant Push& p [[buffer(0)]], const device Parts& _166 [[buffer(2)]], device Y& _273 [[buffer(3)]], const device Step& _101 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    do
    {
        if (gl_WorkGroupID.x >= _101.step_[0])
        {
            break;
        }
        uint _139 = ((((_101.step_[1] - _101.step_[13]) + uint(int(popcount(_101.step_[80u + gl_WorkGroupID.x])))) + uint(int(popcount(_101.step_[144u + gl_WorkGroupID.x])))) + 255u) / 256u;
        uint _148 = p.value_dim + 2u;
        uint _161 = (((gl_WorkGroupID.x * p.heads) + gl_WorkGroupID.y) * p.max_parts) * _148;
        float _426;
        _426 = _166.parts[_161];
        for (uint _414 = 1u; _414 < _139; )
        {
            _426 = fast::max(_426, _166.parts[_161 + (_414 * _148)]);
            _414++;
            continue;
        }
        float _422;
        _422 = 0.0;
        float _221;
        for (uint _415 = 0u; _415 < _139; _422 = _221, _415++)
        {
            uint _205 = _161 + (_415 * _148);
            float _209 = spvFSub(_166.parts[_205], _426);
            float _431;
            do
            {
                if (_209 < (-87.0))
                {
                    _431 = 0.0;
                    break;
                }
                float _322 = floor(fma(_209, 1.44269502162933349609375, 0.5));
                float _328 = fma(_322, 0.00021219444170128554105758666992188, fma(_322, -0.693359375, _209));
                _431 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _328, 0.00139819993637502193450927734375), _328, 0.008333452045917510986328125), _328, 0.0416657961905002593994140625), _328, 0.1666666567325592041015625), _328, 0.5), _328), _328, _328), 1.0) * as_type<float>(uint(int(_322) + 127) << uint(23));
                break;
            } while(false);
            _221 = fma(_431, _166.parts[_205 + 1u], _422);
        }
        for (uint _416 = gl_LocalInvocationID.x; _416 < p.value_dim; _416 += THREADS)
        {
            float _419;
            _419 = 0.0;
            float _267;
            for (uint _417 = 0u; _417 < _139; _419 = _267, _417++)
            {
                uint _249 = _161 + (_417 * _148);
                float _253 = spvFSub(_166.parts[_249], _426);
                float _427;
                do
                {
                    if (_253 < (-87.0))
                    {
                        _427 = 0.0;
                        break;
                    }
                    float _375 = floor(fma(_253, 1.44269502162933349609375, 0.5));
                    float _381 = fma(_375, 0.00021219444170128554105758666992188, fma(_375, -0.693359375, _253));
                    _427 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _381, 0.00139819993637502193450927734375), _381, 0.008333452045917510986328125), _381, 0.0416657961905002593994140625), _381, 0.1666666567325592041015625), _381, 0.5), _381), _381, _381), 1.0) * as_type<float>(uint(int(_375) + 127) << uint(23));
                    break;
                } while(false);
                _267 = fma(_427, _166.parts[(_249 + 2u) + _416], _419);
            }
            _273.y[((gl_WorkGroupID.x * p.y_stride) + (gl_WorkGroupID.y * p.y_head)) + _416] = _419 / _422;
        }
        break;
    } while(false);
}

